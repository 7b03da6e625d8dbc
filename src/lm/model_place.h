/* A folder gets a new model as a whole, or stays as it was.
 *
 *   open; write every file into `tmp`; commit; close
 *
 * `tmp` lies inside the folder, so it is on the same file system. commit takes the old config.json
 * away first and puts the new one in place last: at no moment does one stand beside the weights of
 * another model, and a process killed in between leaves a folder that does not open. Files of the
 * old model that the new one does not have are removed, by the names that Podium and Hugging Face
 * give them; other files stay. What killed runs left there is removed too. */
#ifndef PD_LM_MODEL_PLACE_H
#define PD_LM_MODEL_PLACE_H

#include "base/err.h"

struct pd_model_place {
    char *dir, *tmp;
    int lock;  /* the folder itself, held against other writers; -1 = none */
    bool made; /* the folder was not there before */
};

/* PD_BUSY while another process writes a model there; PD_CONFLICT where an adapter lies. *p may be
 * closed whatever comes back. */
PD_CHECKED enum pd_rc pd_model_place_open(struct pd_model_place *p, const char *dir,
                                          struct pd_err *err);
PD_CHECKED enum pd_rc pd_model_place_commit(struct pd_model_place *p, struct pd_err *err);
/* Removes what was not committed, and the folder if it was made for that. */
void pd_model_place_close(struct pd_model_place *p);

#endif
