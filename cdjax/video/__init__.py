"""Style transfer of films: smoothing over time, reading and writing films and folders of frames."""
