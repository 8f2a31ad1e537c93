"""Rendering -> Format: how the picture of an unknown template is found.

message_style   how messages must be written for a template to carry them
probe           conversations whose names, keys and values are sentinels, and what the template writes for them
atoms           what renderings are compared by: markers, words, blanks
turn_start      where the assistant's turn begins and ends in a rendering
call_bounds     where each call begins and ends: section, call, what stands between
arguments       how a call writes its arguments       parameters   parameters in tags of their own
frames          how thoughts and content are framed
induce          all of it, in order -> Induction
"""
