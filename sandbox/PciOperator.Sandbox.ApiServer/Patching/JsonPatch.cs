using System.Globalization;
using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>A JSON patch that can't be applied to a document.</summary>
internal sealed class JsonPatchException(string message) : Exception(message);

/// <summary>JSON patch, RFC 6902.</summary>
internal static class JsonPatch
{
    public static JsonNode? Apply(JsonNode? document, JsonArray patch)
    {
        // A holder makes the document itself replaceable like any member.
        var holder = new JsonObject { ["doc"] = document };
        foreach (JsonObject operation in patch.OfType<JsonObject>())
        {
            string path = operation.Str("path") ?? throw new JsonPatchException("operation missing path field");
            switch (operation.Str("op"))
            {
                case "add":
                    Add(holder, path, operation["value"].Copy());
                    break;
                case "remove":
                    Remove(holder, path);
                    break;
                case "replace":
                    if (!TryFind(holder, path, out _))
                        throw new JsonPatchException($"replace operation does not apply: doc is missing key: {path}: missing value");
                    Replace(holder, path, operation["value"].Copy());
                    break;
                case "move":
                    string from = operation.Str("from") ?? "";
                    if (!TryFind(holder, from, out JsonNode? moved))
                        throw new JsonPatchException($"error in move for path: '{from}': doc is missing key: {from}: missing value");
                    Remove(holder, from);
                    Add(holder, path, moved.Copy());
                    break;
                case "copy":
                    string source = operation.Str("from") ?? "";
                    if (!TryFind(holder, source, out JsonNode? copied))
                        throw new JsonPatchException($"error in copy for path: '{source}': doc is missing key: {source}: missing value");
                    Add(holder, path, copied.Copy());
                    break;
                case "test":
                    if (!TryFind(holder, path, out JsonNode? actual))
                        actual = null;
                    if (!Json.Same(actual, operation["value"]))
                        throw new JsonPatchException($"testing value {path} failed: test failed");
                    break;
                default:
                    throw new JsonPatchException($"Unexpected kind: {operation.Str("op")}");
            }
        }

        JsonNode? result = holder["doc"];
        holder.Remove("doc");
        return result;
    }

    private static List<string> Parts(string pointer)
    {
        var parts = new List<string> { "doc" };
        if (pointer.Length == 0)
            return parts;
        if (pointer[0] != '/')
            throw new JsonPatchException($"invalid JSON pointer: {pointer}");
        parts.AddRange(
            pointer[1..].Split('/').Select(p => p.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal))
        );
        return parts;
    }

    private static bool TryFind(JsonObject holder, string pointer, out JsonNode? found)
    {
        found = holder;
        foreach (string part in Parts(pointer))
        {
            switch (found)
            {
                case JsonObject obj when obj.TryGetPropertyValue(part, out JsonNode? value):
                    found = value;
                    break;
                case JsonArray array when Index(part, array.Count - 1) is { } i:
                    found = array[i];
                    break;
                default:
                    return false;
            }
        }

        return true;
    }

    private static (JsonNode Parent, string Last) Parent(JsonObject holder, string pointer, string operation)
    {
        List<string> parts = Parts(pointer);
        JsonNode? node = holder;
        foreach (string part in parts.SkipLast(1))
        {
            node = node switch
            {
                JsonObject obj => obj[part],
                JsonArray array when Index(part, array.Count - 1) is { } i => array[i],
                _ => null,
            };
        }

        return (
            node
                ?? throw new JsonPatchException($"{operation} operation does not apply: doc is missing path: \"{pointer}\": missing value"),
            parts[^1]
        );
    }

    private static void Add(JsonObject holder, string pointer, JsonNode? value)
    {
        (JsonNode? parent, string? last) = Parent(holder, pointer, "add");
        switch (parent)
        {
            case JsonObject obj:
                obj[last] = value;
                break;
            case JsonArray array when last == "-":
                array.Add(value);
                break;
            case JsonArray array:
                array.Insert(
                    Index(last, array.Count)
                        ?? throw new JsonPatchException(
                            $"add operation does not apply: Unable to access invalid index: {last}: invalid index referenced"
                        ),
                    value
                );
                break;
            default:
                throw new JsonPatchException($"add operation does not apply: doc is missing path: \"{pointer}\": missing value");
        }
    }

    private static void Replace(JsonObject holder, string pointer, JsonNode? value)
    {
        (JsonNode? parent, string? last) = Parent(holder, pointer, "replace");
        if (parent is JsonArray array)
            array[Index(last, array.Count - 1)!.Value] = value;
        else
            ((JsonObject)parent)[last] = value;
    }

    private static void Remove(JsonObject holder, string pointer)
    {
        (JsonNode? parent, string? last) = Parent(holder, pointer, "remove");
        bool removed = parent switch
        {
            JsonObject obj => obj.Remove(last),
            JsonArray array when Index(last, array.Count - 1) is { } i => RemoveAt(array, i),
            _ => false,
        };
        if (!removed)
        {
            throw new JsonPatchException(
                parent is JsonArray
                    ? $"remove operation does not apply: Unable to access invalid index: {last}: invalid index referenced"
                    : $"remove operation does not apply: doc is missing path: \"{pointer}\": missing value"
            );
        }
    }

    private static bool RemoveAt(JsonArray array, int index)
    {
        array.RemoveAt(index);
        return true;
    }

    private static int? Index(string part, int last) =>
        int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int index) && index <= last ? index : null;
}
