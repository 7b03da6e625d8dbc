/* What llama.cpp says of token ids: for each line of ids on stdin, the log-probs of all but the
 * first and, on a line of its own, the ids of a text (from the file named third) tokenized by its
 * vocabulary. usage: llama_logprobs MODEL.gguf [TEXT] <ids         built by files.py against
 * llama.cpp's libraries */
#include "llama.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *data)
{
    (void)data;
    if (level >= GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static void score(struct llama_context *ctx, llama_token *ids, int n, int n_vocab)
{
    struct llama_batch b = llama_batch_init(n, 0, 1);
    b.n_tokens = n;
    for (int i = 0; i < n; i++) {
        b.token[i] = ids[i];
        b.pos[i] = i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = 1;
    }
    llama_memory_clear(llama_get_memory(ctx), true);
    if (llama_decode(ctx, b) != 0)
        exit(3);
    for (int i = 0; i + 1 < n; i++) {
        const float *l = llama_get_logits_ith(ctx, i);
        double max = l[0], sum = 0;
        for (int v = 0; v < n_vocab; v++)
            max = l[v] > max ? l[v] : max;
        for (int v = 0; v < n_vocab; v++)
            sum += exp(l[v] - max);
        printf("%s%.9g", i ? " " : "", l[ids[i + 1]] - max - log(sum));
    }
    printf("\n");
    llama_batch_free(b);
}

static void tokenize(const struct llama_vocab *vocab, const char *path)
{
    static char text[1 << 16];
    static llama_token ids[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f)
        exit(4);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    int k = llama_tokenize(vocab, text, (int)n, ids, 1 << 16, false, true);
    for (int i = 0; i < k; i++)
        printf("%s%d", i ? " " : "", ids[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    static char line[1 << 16];
    llama_log_set(quiet, NULL);
    struct llama_model_params mp = llama_model_default_params();
    struct llama_context_params cp = llama_context_default_params();
    if (argc < 2)
        return 2;
    struct llama_model *m = llama_model_load_from_file(argv[1], mp);
    if (!m)
        return 1;
    cp.n_ctx = 256;
    cp.n_batch = cp.n_ubatch = 256;
    cp.n_threads = cp.n_threads_batch = 1;
    cp.type_k = cp.type_v = GGML_TYPE_F32;
    cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *ctx = llama_init_from_model(m, cp);
    if (!ctx)
        return 1;
    const struct llama_vocab *vocab = llama_model_get_vocab(m);
    while (fgets(line, sizeof line, stdin)) {
        llama_token ids[256];
        int n = 0;
        for (char *p = strtok(line, " \n"); p && n < 256; p = strtok(NULL, " \n"))
            ids[n++] = atoi(p);
        score(ctx, ids, n, llama_vocab_n_tokens(vocab));
    }
    if (argc > 2)
        tokenize(vocab, argv[2]);
    llama_free(ctx);
    llama_model_free(m);
    return 0;
}
