#pragma once

#include <boost/container/deque.hpp>
#include <boost/container/list.hpp>
#include <boost/container/map.hpp>
#include <boost/container/set.hpp>
#include <boost/container/string.hpp>
#include <boost/container/vector.hpp>
#include <boost/container_hash/hash.hpp>
#include <boost/unordered_map.hpp>
#include <boost/unordered_set.hpp>
#include <functional>
#include <utility>

#include "vmcow/value/image_heap.hpp"

// Containers that can lie in a `Value`, nested to any depth, and outside of values as well. They have the interface of
// the standard containers. Their elements are plain types, these containers, and structs of both.

namespace vmcow {

// NOLINTBEGIN(readability-identifier-naming): as in the standard library.
template <class T>
using vector = boost::container::vector<T, allocator<T>>;
template <class T>
using deque = boost::container::deque<T, allocator<T>>;
template <class T>
using list = boost::container::list<T, allocator<T>>;
using string = boost::container::basic_string<char, std::char_traits<char>, allocator<char>>;
template <class K, class Compare = std::less<K>>
using set = boost::container::set<K, Compare, allocator<K>>;
template <class K, class V, class Compare = std::less<K>>
using map = boost::container::map<K, V, Compare, allocator<std::pair<const K, V>>>;
template <class K, class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
using unordered_set = boost::unordered_set<K, Hash, Equal, allocator<K>>;
template <class K, class V, class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
using unordered_map = boost::unordered_map<K, V, Hash, Equal, allocator<std::pair<const K, V>>>;
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow
