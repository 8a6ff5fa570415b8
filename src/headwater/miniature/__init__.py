"""The whole question in miniature: a world on real digit scans, then the public road.

    scans, contexts, wording, world    the upstream pool and the task
    tokens, learner, generator         the CLIP and the diffusion model both trained on that pool
    demo                               builds it all, then runs the recipe

`demo.run_demo` builds the world and then calls the same `study` a real recipe is run by. This is
the top floor: nothing below knows it.
"""
