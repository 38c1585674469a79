"""Other tasks on the parts of detr_lite, each with its own queries, keys and values."""
