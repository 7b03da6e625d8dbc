/* A whole model from a GGUF file: refused, or every value of every parameter can be read. */
#include "fuzz_read.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_model_options opt = {.purpose = PD_MODEL_INFERENCE};
    struct pd_model *m = NULL;
    struct pd_err err;
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        pd_bug("no memory for the input");
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (pd_model_open(&m, path, &opt, &err) == PD_OK)
        fuzz_read_all(m);
    pd_model_free(m);
    (void)close(fd);
    return 0;
}
