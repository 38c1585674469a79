"""Videos, cameras and streams: frames in, an annotated video out."""
