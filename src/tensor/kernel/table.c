/* One table per instruction set. */
#include "tensor/kernel/vec.h"

#define TABLE2(isa) pd_kernels_##isa
#define TABLE(isa)  TABLE2(isa)

const struct pd_kernels TABLE(PD_ISA) = {.isa = PD_STRINGIFY(PD_ISA),
#define X(name, args) .name = PD_KERNEL(name),
                                         PD_KERNEL_LIST(X)
#undef X
};
