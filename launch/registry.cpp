#include "launch/command.hpp"
#include "launch/commands/bench_attention.hpp"
#include "launch/commands/bench_checkpoint.hpp"
#include "launch/commands/bench_kernels.hpp"
#include "launch/commands/bench_quality.hpp"
#include "launch/commands/bench_scale.hpp"
#include "launch/commands/checkpoint_diff.hpp"
#include "launch/commands/checkpoint_list.hpp"
#include "launch/commands/checkpoint_prune.hpp"
#include "launch/commands/checkpoint_show.hpp"
#include "launch/commands/checkpoint_verify.hpp"
#include "launch/commands/convert.hpp"
#include "launch/commands/data_inspect.hpp"
#include "launch/commands/data_tokenize.hpp"
#include "launch/commands/doctor.hpp"
#include "launch/commands/eval.hpp"
#include "launch/commands/generate.hpp"
#include "launch/commands/score.hpp"
#include "launch/commands/train.hpp"

namespace filigree {

const std::vector<Command>& commands() {
  static const std::vector<Command> list = {
      data_tokenize_command(),
      data_inspect_command(),
      train_command(),
      eval_command(),
      score_command(),
      generate_command(),
      checkpoint_list_command(),
      checkpoint_verify_command(),
      checkpoint_show_command(),
      checkpoint_diff_command(),
      checkpoint_prune_command(),
      convert_command(),
      bench_scale_command(),
      bench_kernels_command(),
      bench_attention_command(),
      bench_quality_command(),
      bench_checkpoint_command(),
      doctor_command(),
  };
  return list;
}

}  // namespace filigree
