using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>What changed between two values, by field.</summary>
internal sealed class Comparison
{
    public FieldSet Added { get; } = new();

    public FieldSet Modified { get; } = new();

    public FieldSet Removed { get; } = new();
}

/// <summary>
/// Comparing, merging and pruning values by their <see cref="MergeType"/>; the rules are those of Kubernetes'
/// structured-merge-diff.
/// </summary>
internal static class TypedValues
{
    public static Comparison Compare(JsonObject? left, JsonObject right, MergeType type)
    {
        var result = new Comparison();
        Compare(left, right, type, [], result);
        return result;
    }

    private static void Compare(JsonNode? left, JsonNode? right, MergeType type, List<string> path, Comparison result)
    {
        switch (left ?? right)
        {
            case JsonObject
                when (left is null or JsonObject)
                    && (right is null or JsonObject)
                    && !type.IsAtomicMap
                    && !(IsEmpty(left) && IsEmpty(right)):
                (JsonObject? l, JsonObject? r) = (left as JsonObject, right as JsonObject);
                foreach (string name in (l?.Select(p => p.Key) ?? []).Union(r?.Select(p => p.Key) ?? []))
                    Descend(l?[name], r?[name], type.Field(name), "f:" + name);
                break;
            case JsonArray
                when (left is null or JsonArray)
                    && (right is null or JsonArray)
                    && type.List != ListType.Atomic
                    && !(IsEmpty(left) && IsEmpty(right)):
                (Dictionary<string, JsonNode?>? lefts, Dictionary<string, JsonNode?>? rights) = (
                    ByElement(left as JsonArray, type),
                    ByElement(right as JsonArray, type)
                );
                foreach (string element in lefts.Keys.Union(rights.Keys))
                    Descend(lefts.GetValueOrDefault(element), rights.GetValueOrDefault(element), type.Item, element);
                break;
            default:
                if (left is not null && right is not null && !Json.Same(left, right))
                    result.Modified.Insert(path);
                break;
        }

        if (left is null && right is not null)
            result.Added.Insert(path);
        if (left is not null && right is null)
            result.Removed.Insert(path);

        void Descend(JsonNode? a, JsonNode? b, MergeType child, string element)
        {
            if (a is null && b is null)
                return;
            path.Add(element);
            Compare(a, b, child, path, result);
            path.RemoveAt(path.Count - 1);
        }
    }

    /// <summary>The fields that a configuration sets.</summary>
    public static FieldSet Fields(JsonObject configuration, MergeType type)
    {
        var set = new FieldSet();
        Collect(configuration, type, [], set);
        return set;
    }

    private static void Collect(JsonNode? value, MergeType type, List<string> path, FieldSet set)
    {
        switch (value)
        {
            case JsonObject obj when !type.IsAtomicMap:
                foreach ((string name, JsonNode? member) in obj)
                {
                    path.Add("f:" + name);
                    Collect(member, type.Field(name), path, set);
                    if (IsEmpty(member) && member is not JsonArray || !type.IsNamed(name))
                        set.Insert(path);
                    path.RemoveAt(path.Count - 1);
                }

                break;
            case JsonArray array when type.List != ListType.Atomic:
                foreach ((string element, JsonNode? item) in ByElement(array, type))
                {
                    path.Add(element);
                    Collect(item, type.Item, path, set);
                    set.Insert(path);
                    path.RemoveAt(path.Count - 1);
                }

                break;
            default:
                set.Insert(path);
                break;
        }
    }

    /// <summary>The live value with a configuration laid over it; may share nodes with neither.</summary>
    public static JsonNode? Merge(JsonNode? live, JsonNode? configuration, MergeType type)
    {
        switch (live, configuration)
        {
            case (JsonObject l, JsonObject c) when !type.IsAtomicMap:
                var merged = new JsonObject();
                foreach ((string name, JsonNode? value) in l)
                    merged[name] = c.TryGetPropertyValue(name, out JsonNode? over) ? Merge(value, over, type.Field(name)) : value.Copy();
                foreach ((string name, JsonNode? value) in c)
                {
                    if (!l.ContainsKey(name))
                        merged[name] = value.Copy();
                }

                return merged;
            case (JsonArray l, JsonArray c) when type.List != ListType.Atomic:
                return MergeLists(l, c, type);
            default:
                return configuration.Copy();
        }
    }

    // Items of the configuration keep their order; those of the live list alone stay where they were among them.
    private static JsonArray MergeLists(JsonArray live, JsonArray configuration, MergeType type)
    {
        (List<KeyValuePair<string, JsonNode?>>? lefts, List<KeyValuePair<string, JsonNode?>>? rights) = (
            ByElement(live, type).ToList(),
            ByElement(configuration, type).ToList()
        );
        var leftItems = lefts.ToDictionary(StringComparer.Ordinal);
        var inBoth = rights.Where(r => leftItems.ContainsKey(r.Key)).Select(r => r.Key).ToList();
        var rightKeys = rights.Select(r => r.Key).ToHashSet(StringComparer.Ordinal);
        var merged = new JsonArray();
        int l = 0,
            r = 0,
            shared = 0;
        while (l < lefts.Count || r < rights.Count)
        {
            if (l < lefts.Count && r < rights.Count)
            {
                if (lefts[l].Key == rights[r].Key)
                {
                    merged.Add(Merge(lefts[l].Value, rights[r].Value, type.Item));
                    (l, r, shared) = (l + 1, r + 1, shared + 1);
                    continue;
                }

                if (rightKeys.Contains(lefts[l].Key) && shared < inBoth.Count && inBoth[shared] != lefts[l].Key)
                {
                    l++;
                    continue;
                }
            }

            if (l < lefts.Count)
            {
                if (!rightKeys.Contains(lefts[l].Key))
                {
                    merged.Add(lefts[l].Value.Copy());
                    l++;
                    continue;
                }

                if (r >= rights.Count)
                {
                    l++;
                    continue;
                }
            }

            (string? key, JsonNode? item) = rights[r++];
            merged.Add(leftItems.TryGetValue(key, out JsonNode? old) ? Merge(old, item, type.Item) : item.Copy());
            if (shared < inBoth.Count && inBoth[shared] == key)
                shared++;
        }

        return merged;
    }

    /// <summary>Removes, in place, what <paramref name="last"/> has and <paramref name="owned"/> has not.</summary>
    public static void Prune(JsonNode? value, MergeType type, FieldSet last, FieldSet owned)
    {
        switch (value)
        {
            case JsonObject obj when !type.IsAtomicMap:
                foreach (string name in obj.Select(p => p.Key).ToList())
                {
                    if (last.Child("f:" + name) is not { } child)
                        continue;
                    FieldSet? others = owned.Child("f:" + name);
                    bool named = type.IsNamed(name);
                    if (Has(child, named) && !(others is not null && Has(others, named)))
                        obj.Remove(name);
                    else
                        Prune(obj[name], type.Field(name), child, others ?? new FieldSet());
                }

                break;
            case JsonArray array when type.List != ListType.Atomic:
                for (int i = array.Count - 1; i >= 0; i--)
                {
                    if (type.Element(array[i]) is not { } element || last.Child(element) is not { } child)
                        continue;
                    FieldSet? others = owned.Child(element);
                    if (child.Member && others is not { Member: true })
                        array.RemoveAt(i);
                    else
                        Prune(array[i], type.Item, child, others ?? new FieldSet());
                }

                break;
        }
    }

    // A declared field belongs to whoever has something in it.
    private static bool Has(FieldSet set, bool named) => set.Member || (named && set.HasChildren);

    private static bool IsEmpty(JsonNode? value) => value is null or JsonObject { Count: 0 } or JsonArray { Count: 0 };

    private static Dictionary<string, JsonNode?> ByElement(JsonArray? array, MergeType type)
    {
        var items = new Dictionary<string, JsonNode?>(StringComparer.Ordinal);
        for (int i = 0; i < (array?.Count ?? 0); i++)
        {
            if (type.Element(array![i]) is { } element)
                items.TryAdd(element, array[i]);
        }

        return items;
    }
}
