"""Template text -> text.

environment   Jinja's sandbox as transformers sets it up, with guards: compile, render, facts of a source
limits        how much a source may hold, and a render do and write
cache         what is kept on disk: data, in a folder that is the user's alone
"""
