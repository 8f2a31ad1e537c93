"""All that touches Jinja: rendering strangers' chat templates, learning their picture, proving it.

    rendering/   template text -> text: the sandbox, its limits, what is kept of it
    induction/   probe conversations -> renderings -> cut into turn, calls, arguments -> a Format
    judging/     what the user handed in -> the rungs of the ladder -> proof -> Detection, problems, report

A detection runs down this list: `judging.inputs` says what was handed in, `judging.ladder` climbs,
`induction.induce` learns a picture from what `rendering` writes, `judging.proof` tries it on the template,
`judging.problems` says what the template itself destroys, `judging.doctor` reports it.
Nothing in here is imported by `import toolparse`; `toolparse.detect` loads it when a template has to be read.
"""
