// A value of a JSON file, where it stands, and what to say of it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/storage/file_problem.hpp"

namespace filigree {

// A value of the file and its path there: "model.vocab". Whatever is wrong throws UserError.
class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string path, const FileProblem& problem)
      : value_(&value), path_(std::move(path)), problem_(&problem) {}

  // Null where it is absent, or where this is no object.
  JsonField operator[](const std::string& key) const;
  JsonField operator[](std::size_t index) const {
    return {(*value_)[index], path_ + "[" + std::to_string(index) + "]", *problem_};
  }
  const nlohmann::json& value() const { return *value_; }

  template <class... Allowed>
  [[noreturn]] void refuse(const Allowed&... allowed) const {
    problem_->fail(path_, " = ", shown(), "; allowed: ", allowed...);
  }
  // One of these; a null stands for absence too.
  void allow(std::initializer_list<nlohmann::json> allowed, std::string_view hint = "") const;

  bool flag(bool absent) const;
  const std::string& text() const;         // that is not empty
  std::int32_t id(std::size_t ids) const;  // below `ids`
  const nlohmann::json::array_t& list() const;
  const nlohmann::json::object_t& object() const;

 private:
  std::string shown() const;

  const nlohmann::json* value_;
  std::string path_;
  const FileProblem* problem_;
};

}  // namespace filigree
