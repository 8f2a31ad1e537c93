"""All that touches Jinja: rendering strangers' chat templates, learning their picture, proving it.

Nothing in here is imported by `import toolparse`; `toolparse.detect` loads it when a template has to be read.
"""
