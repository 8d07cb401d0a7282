"""fast-reid's EmbeddingHead: the same arguments and state_dict, without its batch x classes logits.

    from basket_softmax.compat.fastreid import EmbeddingHead

    head = EmbeddingHead(feat_dim=2048, num_classes=751, cls_type="CircleSoftmax", scale=64, margin=0.35,
                         with_bnneck=True)
    head.load_state_dict(head_state_dict(torch.load("model_final.pth")))

`head_state_dict` takes a head's entries out of a checkpoint of the whole model, `with_head` puts them back.
`EmbeddingHead(cfg)` reads a configuration. To train with fast-reid's configurations and trainer, import
`basket_softmax.compat.fastreid.registered` and set MODEL.META_ARCHITECTURE to "BasketBaseline".
"""

from .checkpoint import head_state_dict, with_head
from .embedding_head import EmbeddingHead
from .softmax import CircleSoftmax, margin_of

__all__ = ["CircleSoftmax", "EmbeddingHead", "head_state_dict", "margin_of", "with_head"]
