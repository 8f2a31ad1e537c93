"""What the user handed in -> Detection.

inputs            a tokenizer, a file, a folder, a text -> template, vocabulary, configuration
ladder            the rungs: fingerprint, behaviour, induction, vocabulary; the first that proves itself is taken
examination       the rungs that need the template rendered: learn, rank, prove
isolation         the same in a process of its own (isolation_child); vouched.txt lists who needs none
likeness          what two templates that write the same have in common; families that are near
vocabulary        evidence from added tokens, names and response templates, where no template writes calls
proof             does a format read, and write, what its template writes
problems          what the template itself destroys
detection         the results          detection_store   results kept in memory and on disk
doctor            all of it as a text for people
"""
