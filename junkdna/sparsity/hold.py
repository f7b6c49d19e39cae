"""How a mask is held while a model trains, and the proof that it was.

=============  ============================  =====================  =============================================
kind           transfer (paper)              removed weights        held while training
=============  ============================  =====================  =============================================
``"sparse"``   sparse transfer               set to 0               yes, at 0
``"frozen"``   dense transfer with freezing  left as pre-trained    yes, at their pre-trained values, bit for bit
``"free"``     sparse-to-dense transfer      set to 0               no, they may grow again
=============  ============================  =====================  =============================================

Dense transfer has no mask, and nothing is held. Before a step of the optimizer the gradients of held weights are set
to 0, so that they leave nothing in its state. After the step the weights themselves are restored. Torch's
element-wise optimizers add exactly 0 to such a weight; after their steps nothing is written where that is certain.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError, did_you_mean
from junkdna.sparsity import locate, optimizers
from junkdna.sparsity.kinds import KINDS
from junkdna.sparsity.masks import Masks, fingerprint
from junkdna.sparsity.matrix import HeldMatrix, MaskBroken

__all__ = ["Held", "MaskBroken", "hold", "verify"]

_attached: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.WeakSet[_Attachment]] = weakref.WeakKeyDictionary()
"""What holds masks in the steps of each optimizer; the optimizer's own hooks keep it alive."""


def hold(model: nn.Module, masks: Mapping[str, Tensor], kind: str) -> Held:
    """Bring a model's weights into the state in which training starts, and return what keeps the masks.

    ``masks``: name -> boolean tensor of the parameter's shape, True where a weight is kept. ``kind`` is "sparse",
    "frozen" or "free". The masks are copied. Parameters may have any floating dtype, be on any device, and be divided
    by ``fully_shard`` before or after. Raises UserError if masks and model do not fit, if weights to be frozen are not
    finite or are rescaled by every forward pass (``max_norm``), and if the processes of a DistributedDataParallel give
    other masks.
    """
    return Held(model, masks, kind)


class Held:
    """Masks held in a model. Made by ``hold``; does its work in the steps of the optimizers that it is attached to."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor], kind: str):
        if kind not in KINDS:
            raise UserError(Fault("kind", kind, f"must be one of {', '.join(KINDS)}{did_you_mean(str(kind), KINDS)}"))
        if isinstance(model, nn.parallel.DistributedDataParallel):
            check_same_on_all(masks)
        self.model, self.kind = model, kind
        locate.reshard(model)
        found = locate.of_masks(model, masks)
        if kind == "frozen":
            _check_not_rescaled(model, found)
        self.matrices = [HeldMatrix(name, masks[name], found[name], kind) for name in found]
        self._attachments: list[_Attachment] = []
        self._replaced: list[HeldMatrix] = []  # by later masks, in the optimizers that this is attached to
        for matrix in self.matrices:
            matrix.start()

    @property
    def masks(self) -> Masks:
        """The masks, as they were given; a tied parameter once."""
        return {matrix.name: matrix.mask for matrix in self.matrices}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The masked parameters."""
        return {matrix.name: matrix.parameter for matrix in self.matrices}

    # --- in the optimizer --------------------------------------------------------------------------------------------

    def attach(self, *optimizers_: torch.optim.Optimizer) -> Held:
        """Hold the masks in every step of these optimizers, which together must train every masked parameter.

        Call it once model and optimizers are what training uses: after ``fully_shard``, after
        ``accelerator.prepare``. It ends an earlier attachment: its own, and in these optimizers that of other masks of
        the same parameters. Raises UserError if a parameter is not trained by them or is no longer there, and
        MaskBroken if a weight has changed since ``hold``; the earlier attachment then goes on.
        """
        locate.reshard(self.model)
        found = locate.of_masks(self.model, self.masks)
        if self.kind == "free":
            inner, attachments = list(filter(None, map(optimizers.find, optimizers_))), []
        else:
            if not optimizers_:
                raise UserError(Fault("optimizer", "", "give at least one"))
            inner = list(dict.fromkeys(map(optimizers.innermost, optimizers_)))
            attachments = _attachments(self, found, inner)
            self._verify(self.matrices)
        self.detach()  # not before: what is refused leaves an earlier attachment at work
        self._place(found)
        for optimizer in inner:
            for other in list(_attached.get(optimizer, ())):
                other.let_go(self.parameters.values())
        for attachment in attachments:
            attachment.register()
        self._attachments = attachments
        return self

    def detach(self) -> None:
        """Let go of the optimizers. The weights stay as they are and are free to move."""
        for attachment in self._attachments:
            attachment.remove()
        self._attachments, self._replaced = [], []

    @torch.no_grad()
    def before_step(self) -> None:
        """Set the gradients of held weights to 0.

        The steps of an attached optimizer do this themselves. Call it before clipping gradients, so that those of
        held weights do not count in the norm.
        """
        for matrix in self._at_work():
            matrix.mask_gradient()

    def after_step(self) -> None:
        """Set held weights to what they must be. The steps of an attached optimizer do it themselves, where needed."""
        for matrix in self._at_work():
            matrix.restore()

    # --- the proof ---------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Check exactly that every held weight is what it must be: 0, or bit for bit its frozen value.

        Raises MaskBroken if one is not, and UserError if a masked matrix holds NaN or infinite values: training has
        diverged. Each process checks the weights that it holds. What is checked is what the model computes with at this
        moment, also where that is for a while another parameter than the optimizer's: an average of the weights, or
        weights that ``fully_shard`` has gathered. Weights in which other masks have been attached since are theirs to
        check.
        """
        if self.kind != "free":
            self._verify(self._at_work())

    def state_dict(self) -> dict:
        """What must be saved to go on: the kind, the masks' fingerprint and the values of frozen weights, in full."""
        values = {matrix.name: matrix.values for matrix in self.matrices if matrix.values is not None}
        return {"kind": self.kind, "mask": fingerprint(self.masks), "values": values}

    def load_state_dict(self, state: dict) -> None:
        """Take over the frozen values of a saved state. The weights themselves come with the model's own state.

        Raises UserError, with everything as it was, if the state is of other masks or of another kind, or is none.
        """
        if not isinstance(state, Mapping) or {"kind", "mask", "values"} - state.keys():
            raise UserError(Fault("state", "", "is not what Held.state_dict returns"))
        if state["kind"] != self.kind:
            raise UserError(Fault("kind", self.kind, f"the saved state is of the kind {state['kind']}"))
        if state["mask"] != fingerprint(self.masks):
            raise UserError(Fault("mask", "", "the saved state is of other masks"))
        for matrix in self.matrices:
            matrix.check_values(state["values"].get(matrix.name))
        for matrix in self.matrices:
            matrix.take_values(state["values"].get(matrix.name))

    def __reduce_ex__(self, protocol):
        """Refuse to be copied or pickled: a copy would be attached to nothing, and hold nothing."""
        raise TypeError("a Held cannot be copied or pickled; hold and attach in the copy, and use state_dict to save")

    def _verify(self, matrices: Iterable[HeldMatrix]) -> None:
        found = locate.of_masks(self.model, self.masks)
        for matrix in matrices:
            matrix.of(found[matrix.name]).verify()

    def _place(self, found: Mapping[str, nn.Parameter]) -> None:
        for matrix in self.matrices:
            matrix.place(found[matrix.name])

    def _at_work(self) -> list[HeldMatrix]:
        """The matrices that no other masks have taken over, where they are: in what the optimizers train, if known."""
        if not self._attachments:
            self._place(locate.of_masks(self.model, self.masks))
        return [matrix for matrix in self.matrices if matrix not in self._replaced]


class _Attachment:
    """The hooks in one optimizer. ``matrices``: those of ``held`` that it trains."""

    def __init__(self, held: Held, optimizer: torch.optim.Optimizer, matrices: list[HeldMatrix]):
        self._held, self.optimizer, self.matrices = weakref.ref(held), optimizer, matrices
        self._clean: set[str] | None = None  # matrices of whose held weights the optimizer remembers nothing
        self._groups: tuple[list, list] = ([], [])  # how the optimizer's groups looked, and whose matrices they train
        self._hooks: list = []

    def register(self) -> None:
        optimizer = self.optimizer
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_load_state_dict_post_hook(self._loaded),
        ]
        optimizers.run_first(optimizer, self._hooks[1])  # an average of the weights, say, must see what is held
        _attached.setdefault(optimizer, weakref.WeakSet()).add(self)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        _attached.get(self.optimizer, weakref.WeakSet()).discard(self)

    def let_go(self, parameters: Iterable[nn.Parameter]) -> None:
        """Hold these parameters no longer: other masks are about to be held in them."""
        theirs, held = set(map(id, parameters)), self._held()
        gone = [matrix for matrix in self.matrices if id(matrix.parameter) in theirs]
        self.matrices = [matrix for matrix in self.matrices if matrix not in gone]
        self._groups = ([], [])
        if held is not None:
            held._replaced += gone
        if not self.matrices:
            self.remove()

    def _loaded(self, optimizer) -> None:
        self._clean = None

    @torch.no_grad()
    def _mask_gradients(self) -> None:
        for matrix in self.matrices:
            matrix.mask_gradient()

    def _before(self, optimizer, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self._clean is None:
            clean = (one for one in self.matrices if optimizers.has_clean_state(optimizer, one.parameter, one.kept))
            self._clean = {matrix.name for matrix in clean}
        self._mask_gradients()
        if kwargs.get("closure") is not None:
            return args, kwargs | {"closure": self._masking(kwargs["closure"])}
        if len(args) > 1 and args[1] is not None:  # the first is the optimizer itself
            return (args[0], self._masking(args[1]), *args[2:]), kwargs
        return None

    def _masking(self, closure):
        """A closure that masks the gradients each time it has computed them: LBFGS does so several times a step."""

        def masked():
            loss = closure()
            self._mask_gradients()
            return loss

        return masked

    def _after(self, optimizer, args: tuple, kwargs: dict) -> None:
        clean = self._clean or ()  # None: a state was loaded in the middle of the step
        for index, matrices in self._trained_by(optimizer):
            group = None if index is None else optimizer.param_groups[index]
            safe = group is not None and optimizers.leaves_alone(optimizer, group, matrices[0].kind == "sparse")
            dtypes = {matrix.dtype for matrix in matrices} if safe else ()
            exact = {dtype for dtype in dtypes if not optimizers.divides_by_zero(group, dtype)}
            for matrix in matrices:
                if not (matrix.dtype in exact and matrix.name in clean and matrix.adding_zero_is_exact):
                    matrix.restore()

    def _trained_by(self, optimizer) -> list[tuple[int | None, list[HeldMatrix]]]:
        """The matrices that each parameter group trains, and under None those that none trains any more.

        They are looked up again when the groups have changed.
        """
        seen = [(id(group["params"]), len(group["params"])) for group in optimizer.param_groups]
        if seen != self._groups[0]:
            matrices, found = {id(matrix.parameter): matrix for matrix in self.matrices}, []
            for index, group in enumerate(optimizer.param_groups):
                found.append((index, [matrices[id(one)] for one in group["params"] if id(one) in matrices]))
            known = {matrix.name for _, mine in found for matrix in mine}
            found.append((None, [matrix for matrix in self.matrices if matrix.name not in known]))
            self._groups = seen, [(index, mine) for index, mine in found if mine]
        return self._groups[1]


def _attachments(
    held: Held, parameters: Mapping[str, nn.Parameter], inner: list[torch.optim.Optimizer]
) -> list[_Attachment]:
    """Find out which matrices each optimizer trains, several the same ones perhaps; raises UserError if none does."""
    trained = {
        optimizer: {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in inner
    }
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            raise UserError(Fault("model", "", f"{name} is not trained (requires_grad is False)"))
        if not any(id(parameter) in theirs for theirs in trained.values()):
            names = ", ".join(type(optimizer).__name__ for optimizer in inner)
            reason = (
                f"does not train {name}; attach all optimizers at once, made of the parameters as they are now "
                "(those of DeepSpeed and FSDP1 hold flattened copies, which is not supported)"
            )
            raise UserError(Fault("optimizer", names, reason))
    mine = {
        optimizer: [matrix for matrix in held.matrices if id(parameters[matrix.name]) in theirs]
        for optimizer, theirs in trained.items()
    }
    return [_Attachment(held, optimizer, matrices) for optimizer, matrices in mine.items() if matrices]


def _check_not_rescaled(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise UserError for an embedding that rescales its rows whenever it looks them up."""
    tables = (one for one in model.modules() if isinstance(one, (nn.Embedding, nn.EmbeddingBag)))
    rescaled = {id(one.weight) for one in tables if one.max_norm is not None}
    for name, parameter in parameters.items():
        if id(parameter) in rescaled:
            reason = f"{name} is an embedding with max_norm, whose forward pass moves frozen weights; exclude it"
            raise UserError(Fault("model", "", reason))


def check_same_on_all(masks: Mapping[str, Tensor]) -> None:
    """Raise UserError if the processes of a training were given different masks: their models would drift apart.

    Every process must call it. Without several processes it does nothing.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    hashes = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(hashes, fingerprint(dict(masks)))
    if len(set(hashes)) > 1:
        raise UserError(Fault("mask", "", "the processes hold different masks"))


def verify(model: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Check that every removed weight of a model is exactly 0, and return how many there are.

    Raises MaskBroken if one is not, and UserError if masks and model do not fit or the weights are not finite.
    """
    removed = 0
    for name, parameter in locate.of_masks(model, masks).items():  # one at a time: masks may be packed
        matrix = HeldMatrix(name, masks[name], parameter, "sparse")
        matrix.verify()
        removed += matrix.mask.numel() - int(matrix.mask.count_nonzero())
    return removed
