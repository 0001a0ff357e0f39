// The operations that ran on a device, and which of them stream order, events and the host order
// before the one that runs now.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace simt {

// Stream number -> the latest operation of that stream that is known to have happened before.
class Clock {
 public:
  std::uint64_t operator[](std::size_t stream) const {
    return stream < known_.size() ? known_[stream] : 0;
  }
  void set(std::size_t stream, std::uint64_t sequence) {
    if (known_.size() <= stream) known_.resize(stream + 1, 0);
    known_[stream] = sequence;
  }
  void join(const Clock& other) {
    for (std::size_t s = 0; s < other.known_.size(); ++s) {
      if ((*this)[s] < other[s]) set(s, other[s]);
    }
  }

 private:
  std::vector<std::uint64_t> known_;
};

// Where an operation stands.
struct Place {
  std::string name;
  std::size_t stream = 0;
  std::uint64_t sequence = 0;
  Clock clock;
  // Nodes of one launch of a graph share the place of the launch; among them the graph's edges
  // count.
  std::uint64_t graph_launch = 0;  // 0: not in a graph
  std::size_t node = 0;
  std::shared_ptr<const std::vector<bool>> ancestors;

  bool after(const Place& other) const {
    if (graph_launch != 0 && graph_launch == other.graph_launch) return (*ancestors)[other.node];
    return clock[other.stream] >= other.sequence;
  }
};

class History {
 public:
  void clear() { entries_.clear(); }

  // `place` starts at `time`.
  void begin(const Place& place, std::uint64_t time) {
    floor_ = start_ = time;
    for (const Entry& entry : entries_) {
      if (!place.after(entry.place)) {
        floor_ = entry.start;
        break;
      }
    }
    if (!entries_.empty()) entries_.back().end = std::min(entries_.back().end, time);
    entries_.push_back({time, kNever, place});
  }
  std::uint64_t start() const { return start_; }
  // What is stamped earlier is ordered before the running operation.
  std::uint64_t floor() const { return floor_; }
  const Place& running() const { return entries_.back().place; }

  // The earlier operation that made a stamp of `time` if it is not ordered before the running one,
  // else null.
  const Place* unordered(std::uint64_t time) const {
    for (std::size_t i = entries_.size() - 1; i-- > 0;) {
      if (entries_[i].start > time) continue;
      if (entries_[i].end <= time) return nullptr;  // made by an operation that is forgotten
      return running().after(entries_[i].place) ? nullptr : &entries_[i].place;
    }
    return nullptr;
  }

  // Forgets what every later operation comes after, because the host waited for it.
  void forget(const Clock& host) {
    std::erase_if(entries_, [&](const Entry& entry) {
      return host[entry.place.stream] >= entry.place.sequence;
    });
  }

 private:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  struct Entry {
    std::uint64_t start, end;  // of its stamps
    Place place;
  };
  std::vector<Entry> entries_;  // in the order in which they ran
  std::uint64_t start_ = 0, floor_ = 0;
};

}  // namespace simt
