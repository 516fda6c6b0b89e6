"""Where a live rig's frames come from: devices, streams, files, rings of frames, drives; one small thread each."""
