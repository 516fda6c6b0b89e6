"""`octobev bench`: what the runtime costs beside what one would use or write instead, each figure with its bar.

Every figure is a ratio of two things that were run in turns in one process, or a time or size where there is nothing to
compare with. Peers (`peers/`) are other libraries and programs on the same work; what is not installed is skipped.
"""
