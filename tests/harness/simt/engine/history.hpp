// The operations that ran on a device, and which of them stream order, events and the host order
// before the one that runs now.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <list>
#include <map>
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
  void clear() {
    entries_.clear();
    of_streams_.clear();
  }

  // `place` starts at `time`.
  void begin(const Place& place, std::uint64_t time) {
    floor_ = start_ = time;
    for (const auto& [stream, entries] : of_streams_)
      if (const Entry* first = first_unordered(place, stream, entries))
        floor_ = std::min(floor_, first->start);
    if (!entries_.empty()) entries_.back().end = std::min(entries_.back().end, time);
    entries_.push_back({time, kNever, place});
    of_streams_[place.stream].push_back(std::prev(entries_.end()));
  }
  std::uint64_t start() const { return start_; }
  // What is stamped earlier is ordered before the running operation.
  std::uint64_t floor() const { return floor_; }
  const Place& running() const { return entries_.back().place; }

  // The earlier operation that made a stamp of `time` if it is not ordered before the running one,
  // else null.
  const Place* unordered(std::uint64_t time) const {
    if (entries_.empty()) return nullptr;
    for (auto entry = std::next(entries_.rbegin()); entry != entries_.rend(); ++entry) {
      if (entry->start > time) continue;
      if (entry->end <= time) return nullptr;  // made by an operation that is forgotten
      return running().after(entry->place) ? nullptr : &entry->place;
    }
    return nullptr;
  }

  // Forgets what every later operation comes after, because the host waited for it.
  void forget(const Clock& host) {
    for (auto stream = of_streams_.begin(); stream != of_streams_.end();) {
      OfStream& entries = stream->second;
      while (!entries.empty() && host[stream->first] >= entries.front()->place.sequence) {
        entries_.erase(entries.front());
        entries.pop_front();
      }
      stream = entries.empty() ? of_streams_.erase(stream) : std::next(stream);
    }
  }

 private:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  struct Entry {
    std::uint64_t start, end;  // of its stamps
    Place place;
  };
  using Entries = std::list<Entry>;
  using OfStream = std::deque<Entries::iterator>;  // by sequence, which the starts follow too

  // Of a stream's operations, the first that is not ordered before `place`, else null.
  static const Entry* first_unordered(const Place& place, std::size_t stream,
                                      const OfStream& entries) {
    std::uint64_t known = place.clock[stream];
    if (place.graph_launch != 0 && stream == place.stream)
      known = std::min(known, place.sequence - 1);  // the rest of the launch: by the graph's edges
    auto first = std::partition_point(entries.begin(), entries.end(), [&](const auto& entry) {
      return entry->place.sequence <= known;
    });
    first = std::find_if(first, entries.end(),
                         [&](const auto& entry) { return !place.after(entry->place); });
    return first == entries.end() ? nullptr : &**first;
  }

  Entries entries_;  // in the order in which they ran
  std::map<std::size_t, OfStream> of_streams_;
  std::uint64_t start_ = 0, floor_ = 0;
};

}  // namespace simt
