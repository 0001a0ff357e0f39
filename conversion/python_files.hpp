// The modelling files that `transformers` loads with an exported sparse model: conversion/python/.
#pragma once

#include <string_view>
#include <vector>

namespace filigree {

struct PythonFile {
  std::string_view name, text;
};
const std::vector<PythonFile>& python_files();

}  // namespace filigree
