/* Shared by lora.c and lora_config.c. */
#ifndef PD_LM_LORA_INT_H
#define PD_LM_LORA_INT_H

#include "lm/lora.h"

#define PD_LORA_CONFIG "adapter_config.json"

/* A number that some modules have for themselves: the first rule whose pattern matches counts. */
struct pd_lora_setting {
    struct pd_lora_rule {
        char *key;
        void *code; /* pcre2_code */
        double value;
    } * rules;
    size_t n;
    double otherwise;
};

struct pd_lora_config {
    bool rslora;
    struct pd_lora_setting rank, alpha;
};

/* Reads and checks DIR/adapter_config.json. To be released whatever comes of it. */
PD_CHECKED enum pd_rc pd_lora_config_read(struct pd_lora_config *c, const char *dir,
                                          struct pd_err *err);
void pd_lora_config_release(struct pd_lora_config *c); /* accepts zeros */
PD_CHECKED enum pd_rc pd_lora_setting_of(const struct pd_lora_setting *s, const char *module,
                                         double *value, struct pd_err *err);

#endif
