// How a SimilarityProblem is cut up: blocks, groups of rows, tiles, and where the state of each
// lies. Independent of the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../shared/rounding.h"
#include "similarity_cpu.h"

namespace mclrec::similarity {

constexpr int64_t kMaxTile = 128;     // rows and columns of a tile
constexpr int64_t kMaxGroups = 16;    // of rows of a view
constexpr int64_t kMaxStored = 1024;  // largest B whose exponentials are kept
constexpr int kMaxBlocks = kMaxViews + kMaxPairs;
constexpr double kCosineEps = 1e-8;  // a shorter row is divided by this instead of its length

// The products of the rows of u with those of v. A self block (u == v) has one side, whose rows are
// compared with each other; a cross block has two: its rows (u, side 0) and its columns (v, side
// 1).
struct Block {
  int u, v;
  bool self() const { return u == v; }
};

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// What similarity_forward leaves for similarity_backward: offsets into values, and into indices.
struct State {
  int64_t pair_shift[kMaxPairs][2];  // by side, [B'] each, like all but the tiles'
  int64_t pair_sum[kMaxPairs][2];
  int64_t positive[kMaxPairs];
  int64_t top[kMaxBlocks][2];
  int64_t tile_shifts;   // [tiles]
  int64_t exponentials;  // [tiles, tile_size], where they are kept
  int64_t index[kMaxBlocks][2];
  SimilarityStateSize size;
};

struct Plan {
  int64_t unit;  // group and tile borders are multiples of this, whole register tiles
  int64_t batch, padded_batch, hidden, padded_hidden;
  int64_t groups, group_rows, tile_rows, tiles_per_group, tiles;  // along one side of a block
  int64_t tile_stride;                                            // between the rows of a tile
  int blocks = 0;
  Block block[kMaxBlocks];
  int self_block[kMaxViews];  // by view, -1 where the view is in no pair
  int first_cross;            // cross blocks follow the self blocks, in the order of the pairs
  int cross_block(int pair) const { return first_cross + pair; }
  int64_t first_tile[kMaxBlocks + 1];  // where a block's tiles begin in the store
  bool stored;                         // the exponentials are kept

  int pair_of(int b) const { return b - first_cross; }
  int64_t tile_size() const { return tile_rows * tile_stride; }

  Range group(int64_t g) const {
    return {std::min(g * group_rows, batch), std::min((g + 1) * group_rows, batch)};
  }
  // Tile t of a group's; tiles are numbered through all groups.
  Range tile(int64_t t) const {
    const Range rows = group(t / tiles_per_group);
    const int64_t begin = rows.begin + t % tiles_per_group * tile_rows;
    return {std::min(begin, rows.end), std::min(begin + tile_rows, rows.end)};
  }
  // Number in the store of tile (i, j); of a self block only i <= j exist.
  int64_t tile_number(int b, int64_t i, int64_t j) const {
    return first_tile[b] + (block[b].self() ? i * tiles - i * (i + 1) / 2 + j : i * tiles + j);
  }

  // Where the arrays of the state begin, in elements.
  State state;
  int64_t pair_shift(int pair, int side) const { return state.pair_shift[pair][side]; }
  int64_t pair_sum(int pair, int side) const { return state.pair_sum[pair][side]; }
  int64_t positive(int pair) const { return state.positive[pair]; }
  int64_t top(int b, int side) const { return state.top[b][side]; }
  int64_t tile_shifts() const { return state.tile_shifts; }
  int64_t exponentials() const { return state.exponentials; }
  int64_t index(int b, int side) const { return state.index[b][side]; }
  SimilarityStateSize state_size() const { return state.size; }
};

// Deals out the state, once batch, blocks and tiles are known; the exponentials come last.
inline State carve_state(const Plan& plan) {
  State state{};
  const auto take_values = [&](int64_t count) {
    const int64_t begin = state.size.values;
    state.size.values += count;
    return begin;
  };
  for (int pair = 0; pair < kMaxPairs; ++pair) {
    for (int64_t& shift : state.pair_shift[pair]) shift = take_values(plan.padded_batch);
    for (int64_t& sum : state.pair_sum[pair]) sum = take_values(plan.padded_batch);
  }
  for (int64_t& positive : state.positive) positive = take_values(plan.padded_batch);
  for (int b = 0; b < kMaxBlocks; ++b) {
    for (int side = 0; side < 2; ++side) {
      state.top[b][side] = take_values(plan.padded_batch);
      state.index[b][side] = state.size.indices;
      state.size.indices += plan.padded_batch;
    }
  }
  const int64_t tiles = plan.first_tile[plan.blocks];
  state.tile_shifts = take_values(tiles);
  state.size.values = round_up(state.size.values, plan.unit);
  state.exponentials = take_values(plan.stored ? tiles * plan.tile_size() : 0);
  return state;
}

template <class T>
Plan make_plan(const SimilarityProblem<T>& problem, int64_t unit) {
  Plan plan{};
  plan.unit = unit;
  plan.batch = problem.batch;
  plan.padded_batch = round_up(problem.batch, unit);
  plan.hidden = problem.hidden;
  plan.padded_hidden = round_up(problem.hidden, unit);
  plan.groups = 1;
  while (plan.groups < kMaxGroups && problem.batch >= 2 * plan.groups * kMaxTile) plan.groups *= 2;
  plan.group_rows = round_up(ceil_div(problem.batch, plan.groups), unit);
  plan.tiles_per_group = ceil_div(plan.group_rows, kMaxTile);
  plan.tile_rows = round_up(ceil_div(plan.group_rows, plan.tiles_per_group), unit);
  plan.tiles = plan.groups * plan.tiles_per_group;
  // An odd number of cache lines (of floats), so that the rows of a tile fall into different sets
  // of L1.
  constexpr int64_t kLine = 16;
  plan.tile_stride = plan.tile_rows + (plan.tile_rows / kLine % 2 == 0 ? kLine : 0);
  std::fill(plan.self_block, plan.self_block + kMaxViews, -1);
  for (int p = 0; p < problem.pairs; ++p) {
    for (const int view : {problem.pair[p].u, problem.pair[p].v}) {
      if (plan.self_block[view] >= 0) continue;
      plan.self_block[view] = plan.blocks;
      plan.block[plan.blocks++] = {view, view};
    }
  }
  plan.first_cross = plan.blocks;
  for (int p = 0; p < problem.pairs; ++p) {
    plan.block[plan.blocks++] = {problem.pair[p].u, problem.pair[p].v};
  }
  for (int b = 0; b < plan.blocks; ++b) {
    plan.first_tile[b + 1] =
        plan.first_tile[b] +
        (plan.block[b].self() ? plan.tiles * (plan.tiles + 1) / 2 : plan.tiles * plan.tiles);
  }
  plan.stored = problem.batch <= kMaxStored;
  plan.state = carve_state(plan);
  return plan;
}

// Work on the tiles between two groups of rows of a block.
struct GroupTask {
  int block;
  int64_t gi, gj;
};

// Every group task once, in no particular order.
inline std::vector<GroupTask> forward_tasks(const Plan& plan) {
  std::vector<GroupTask> tasks;
  for (int b = 0; b < plan.blocks; ++b) {
    for (int64_t gi = 0; gi < plan.groups; ++gi) {
      const int64_t first = plan.block[b].self() ? gi : 0;
      for (int64_t gj = first; gj < plan.groups; ++gj) tasks.push_back({b, gi, gj});
    }
  }
  return tasks;
}

// Every group task once, in rounds: within a round no two share a group of a view, so each may add
// to the gradients of both its groups, and the order of all additions is fixed. `groups` is a power
// of two, so that g and g ^ r meet once for each r. `wanted(block)` says which blocks take part.
template <class Wanted>
std::vector<std::vector<GroupTask>> backward_rounds(const Plan& plan, const Wanted& wanted) {
  std::vector<std::vector<GroupTask>> rounds;
  const auto add_rounds = [&](const std::vector<int>& blocks) {
    for (int64_t r = 0; r < plan.groups; ++r) {
      std::vector<GroupTask> round;
      for (const int b : blocks) {
        for (int64_t g = 0; wanted(b) && g < plan.groups; ++g) {
          if (!plan.block[b].self() || (g ^ r) >= g) round.push_back({b, g, g ^ r});
        }
      }
      if (!round.empty()) rounds.push_back(round);
    }
  };
  // Blocks go together while they share no view; which do does not depend on what is wanted.
  std::vector<int> left;
  for (int b = 0; b < plan.blocks; ++b) left.push_back(b);
  while (!left.empty()) {
    std::vector<int> together, later;
    bool used[kMaxViews] = {};
    for (const int b : left) {
      const Block& views = plan.block[b];
      const bool meets = used[views.u] || used[views.v];
      (meets ? later : together).push_back(b);
      if (!meets) used[views.u] = used[views.v] = true;
    }
    add_rounds(together);
    left = later;
  }
  return rounds;
}

}  // namespace mclrec::similarity
