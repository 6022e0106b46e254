using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>
/// Strategic merge patch: a merge patch in which some lists of built-in kinds are merged by a key, with the directives
/// <c>$patch</c>, <c>$retainKeys</c>, <c>$deleteFromPrimitiveList</c> and <c>$setElementOrder</c>.
/// </summary>
internal static class StrategicMergePatch
{
    private const string Directive = "$patch";
    private const string RetainKeys = "$retainKeys";
    private const string DeletePrimitive = "$deleteFromPrimitiveList/";
    private const string Order = "$setElementOrder/";

    public static JsonObject Apply(JsonObject current, JsonObject patch) => Merge(current, patch, MergeType.BuiltInType.Root);

    private static JsonObject Merge(JsonObject current, JsonObject patch, MergeType.BuiltInType type)
    {
        switch (patch.Str(Directive))
        {
            case "replace":
                JsonObject replaced = patch.Copy();
                replaced.Remove(Directive);
                return replaced;
            case "delete":
                return [];
            case null or "merge":
                break;
            case var other:
                throw ApiError.BadRequest($"Unknown patch type \"{other}\" found in the patch");
        }

        if (patch.Arr(RetainKeys) is { } retained)
        {
            var keep = retained.Select(Json.AsString).ToHashSet();
            foreach (string name in current.Select(p => p.Key).Where(k => !keep.Contains(k)).ToList())
                current.Remove(name);
        }

        foreach ((string name, JsonNode? value) in patch)
        {
            if (name is Directive or RetainKeys || name.StartsWith(Order, StringComparison.Ordinal))
                continue;
            if (name.StartsWith(DeletePrimitive, StringComparison.Ordinal))
            {
                DeleteFrom(current.Arr(name[DeletePrimitive.Length..]), value as JsonArray);
                continue;
            }

            if (value is null)
            {
                current.Remove(name);
                continue;
            }

            var child = (MergeType.BuiltInType)type.Field(name);
            current.TryGetPropertyValue(name, out JsonNode? old);
            if (old is not null)
                current.Remove(name);
            current[name] = (old, value) switch
            {
                (_, JsonObject members) => Merge(old as JsonObject ?? [], members, child),
                (_, JsonArray items) when child.PatchKey is { } key => MergeItems(old as JsonArray ?? [], items, key, child),
                (JsonArray set, JsonArray items) when child.List == Schemas.ListType.Set => AddTo(set, items),
                _ => value.Copy(),
            };
        }

        foreach ((string name, JsonNode? value) in patch)
        {
            if (name.StartsWith(Order, StringComparison.Ordinal) && value is JsonArray order)
                Arrange(current, name[Order.Length..], order, (MergeType.BuiltInType)type.Field(name[Order.Length..]));
        }

        return current;
    }

    private static JsonArray MergeItems(JsonArray current, JsonArray patch, string key, MergeType.BuiltInType type)
    {
        if (patch.OfType<JsonObject>().Any(p => p.Str(Directive) == "replace"))
            return [.. patch.OfType<JsonObject>().Where(p => p.Str(Directive) is null).Select(p => p.Copy())];
        var item = (MergeType.BuiltInType)type.Item;
        foreach (JsonObject change in patch.OfType<JsonObject>())
        {
            if (!change.ContainsKey(key))
                throw ApiError.BadRequest($"map: {Json.Text(change)} does not contain declared merge key: {key}");
            int at = IndexOf(current, key, change[key]);
            if (change.Str(Directive) == "delete")
            {
                if (at >= 0)
                    current.RemoveAt(at);
            }
            else if (at >= 0)
            {
                var old = (JsonObject)current[at]!;
                current[at] = null;
                current[at] = Merge(old, change, item);
            }
            else
            {
                current.Add(Merge([], change, item));
            }
        }

        return current;
    }

    private static int IndexOf(JsonArray array, string key, JsonNode? value)
    {
        for (int i = 0; i < array.Count; i++)
        {
            if (array[i] is JsonObject obj && Json.Same(obj[key], value))
                return i;
        }

        return -1;
    }

    private static JsonArray AddTo(JsonArray set, JsonArray items)
    {
        foreach (JsonNode? item in items)
        {
            if (!set.Any(s => Json.Same(s, item)))
                set.Add(item.Copy());
        }

        return set;
    }

    private static void DeleteFrom(JsonArray? set, JsonArray? items)
    {
        for (int i = (set?.Count ?? 0) - 1; i >= 0; i--)
        {
            if (items?.Any(item => Json.Same(item, set![i])) == true)
                set!.RemoveAt(i);
        }
    }

    // Items that the order names come in its order; the others keep their places.
    private static void Arrange(JsonObject parent, string name, JsonArray order, MergeType.BuiltInType type)
    {
        if (parent.Arr(name) is not { } array)
            return;
        JsonNode? KeyOf(JsonNode? item) => type.PatchKey is { } key && item is JsonObject obj ? obj[key] : item;
        var wanted = order.Select(KeyOf).ToList();
        int Rank(JsonNode? item) => wanted.FindIndex(w => Json.Same(w, KeyOf(item)));
        var slots = Enumerable.Range(0, array.Count).Where(i => Rank(array[i]) >= 0).ToList();
        var sorted = slots.Select(i => array[i].Copy()).OrderBy(Rank).ToList();
        for (int i = 0; i < slots.Count; i++)
            array[slots[i]] = sorted[i];
    }
}
