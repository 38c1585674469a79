"""The DETR families of `transformers`: their models with the interface of detr_lite's."""
