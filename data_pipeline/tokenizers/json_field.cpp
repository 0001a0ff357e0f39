#include "data_pipeline/tokenizers/json_field.hpp"

namespace filigree {
namespace {

using nlohmann::json;

constexpr std::size_t kMostShown = 200;

}  // namespace

JsonField JsonField::operator[](const std::string& key) const {
  static const json absent;
  const std::string path = path_.empty() ? key : path_ + "." + key;
  if (!value_->is_object()) return {absent, path, *problem_};
  const auto found = value_->find(key);
  return {found == value_->end() ? absent : *found, path, *problem_};
}

std::string JsonField::shown() const {
  if (value_->is_null()) return "absent";
  const std::string text = value_->dump(-1, ' ', true);
  return text.size() <= kMostShown ? text : text.substr(0, kMostShown) + " ...";
}

void JsonField::allow(std::initializer_list<json> allowed, std::string_view hint) const {
  std::string listed;
  for (const json& one : allowed) {
    if (*value_ == one) return;
    listed += (listed.empty() ? "" : ", ") + (one.is_null() ? "absent" : one.dump());
  }
  refuse(listed, hint);
}

bool JsonField::flag(bool absent) const {
  if (value_->is_null()) return absent;
  if (!value_->is_boolean()) refuse("true, false");
  return value_->get<bool>();
}

const std::string& JsonField::text() const {
  if (!value_->is_string()) refuse("a text");
  const auto& text = value_->get_ref<const std::string&>();
  if (text.empty()) refuse("a text that is not empty");
  return text;
}

std::int32_t JsonField::id(std::size_t ids) const {
  if (!value_->is_number_unsigned() || value_->get<std::uint64_t>() >= ids)
    refuse("ids from 0 to ", static_cast<std::int64_t>(ids) - 1,
           ", as many as there are pieces, without gaps");
  return static_cast<std::int32_t>(value_->get<std::uint64_t>());
}

const json::array_t& JsonField::list() const {
  if (!value_->is_array()) refuse("a list");
  return value_->get_ref<const json::array_t&>();
}

const json::object_t& JsonField::object() const {
  if (!value_->is_object()) refuse("an object");
  return value_->get_ref<const json::object_t&>();
}

}  // namespace filigree
