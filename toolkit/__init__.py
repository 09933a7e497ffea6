"""What a person touches: the command line (one module a verb), the report page, the demo.

Nothing here computes: verbs parse, show progress and print, ``flow`` composes what needs two rooms.
Everything that a verb can do is a public function of the room that does it.
"""
