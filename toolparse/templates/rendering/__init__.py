"""Template text -> text.

environment   Jinja's sandbox as transformers sets it up, with guards: compile, render, facts of a source
limits        how much a render may do and write
"""
