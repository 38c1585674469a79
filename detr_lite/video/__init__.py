"""Films, cameras and streams: frames in, an annotated film out."""
