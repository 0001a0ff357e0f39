#include "runtime/training/initial_weights.hpp"

#include <set>

#include "layers/language_model.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/training_checkpoint.hpp"

namespace filigree {
namespace {

constexpr std::string_view kPrefix = "parameters/";

std::string saved_name(const Parameter& parameter) { return str(kPrefix, parameter.name); }

[[noreturn]] void refuse(const CheckpointReader& reader, const std::string& what) {
  throw UserError(
      str("train.init_from: checkpoint ", reader.folder(), " does not fit the model: ", what,
          "; give [model] the mechanism and sizes of the run that saved it (its config.cfg)"));
}

}  // namespace

std::filesystem::path initial_checkpoint(const std::string& init_from,
                                         const std::function<void(const std::string&)>& warn) {
  const std::filesystem::path folder(init_from);
  std::error_code error;
  if (std::filesystem::is_regular_file(folder / "manifest.json", error)) {
    CheckpointReader(folder).verify();
    return folder;
  }
  if (!std::filesystem::is_regular_file(folder / "config.cfg", error))
    throw UserError(str("train.init_from = ", init_from,
                        " is neither a run nor a checkpoint: it has no config.cfg and no "
                        "manifest.json; give the folder of a run, or of one of its checkpoints"));
  return RunDirectory::open(folder).verified_checkpoint(warn);
}

void check_initial_weights(const CheckpointReader& reader, const RunConfig& config,
                           const Mesh& mesh, const std::string& tokenizer_hash) {
  const TrainingState saved = training_state(reader.info(), reader.folder());
  if (saved.tokenizer_hash != tokenizer_hash)
    throw UserError(str("train.init_from: checkpoint ", reader.folder(),
                        " was trained with tokenizer ", saved.tokenizer_hash,
                        ", data.path = ", config.data.path, " was made with ", tokenizer_hash,
                        "; use shards made with the tokenizer.model of that run"));
  ParameterStore store;
  const LanguageModel model(config.model, mesh, store);
  std::set<std::string> known;
  for (const Parameter& parameter : store.parameters()) {
    const std::string name = saved_name(parameter);
    known.insert(name);
    if (!reader.contains(name)) {
      if (parameter.gate) continue;
      refuse(reader, str("it has no '", name, "', which has shape ", parameter.global_shape,
                         " in the model"));
    }
    const DType wanted = config.train.dtype == "f64" ? DType::f64 : DType::f32;
    if (reader.dtype(name) != wanted)
      throw UserError(str("train.init_from: checkpoint ", reader.folder(), " holds '", name,
                          "' in ", name_of(reader.dtype(name)),
                          ", train.dtype = ", config.train.dtype, " needs ", name_of(wanted),
                          "; take the train.dtype of the run that saved it"));
    if (const Shape shape = reader.global_shape(name); shape != parameter.global_shape)
      refuse(reader, str("'", name, "' has shape ", shape, " there and ", parameter.global_shape,
                         " in the model"));
  }
  for (const std::string& name : reader.names())
    if (name.starts_with(kPrefix) && !known.contains(name))
      refuse(reader,
             str("'", name, "' of shape ", reader.global_shape(name), " is not part of the model"));
}

void load_initial_weights(const CheckpointReader& reader, const ParameterStore& store,
                          ExecutionContext& context) {
  for (std::size_t i = 0; i < store.size(); ++i) {
    const std::string name = saved_name(store[i]);
    if (reader.contains(name))
      read_tensor(reader, {name, store.master_of(i), store[i].global_shape, store[i].offset},
                  context);
  }
  store.refresh_compute(context);
}

}  // namespace filigree
