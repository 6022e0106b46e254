using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer;

/// <summary>
/// Reading and writing JSON as Kubernetes means it. Numbers are <see cref="long"/> or <see cref="double"/>; nodes made
/// here are complete, so that many threads may read one at the same time.
/// </summary>
internal static class Json
{
    private static readonly JsonWriterOptions WriterOptions = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Parses one JSON text. Paths of fields given twice (the last counts) are added to <paramref name="duplicates"/>.</summary>
    public static JsonNode? Parse(ReadOnlySpan<byte> utf8, List<string>? duplicates = null)
    {
        var reader = new Utf8JsonReader(utf8, new JsonReaderOptions { MaxDepth = 256 });
        if (!reader.Read())
            throw new JsonException("unexpected end of JSON input");
        JsonNode? node = ReadValue(ref reader, "", duplicates);
        if (reader.Read())
            throw new JsonException("invalid character after top-level value");
        return node;
    }

    public static JsonObject ParseObject(ReadOnlySpan<byte> utf8) =>
        Parse(utf8) as JsonObject ?? throw new JsonException("expected a JSON object");

    public static JsonObject ParseObject(byte[]? utf8) => ParseObject(utf8.AsSpan());

    public static JsonObject ParseObject(string text) => ParseObject(System.Text.Encoding.UTF8.GetBytes(text));

    private static JsonNode? ReadValue(ref Utf8JsonReader reader, string path, List<string>? duplicates)
    {
        switch (reader.TokenType)
        {
            case JsonTokenType.StartObject:
                var obj = new JsonObject();
                while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
                {
                    string name = reader.GetString()!;
                    reader.Read();
                    // Paths are only needed, and so only made, where duplicates are asked for.
                    string child =
                        duplicates is null ? ""
                        : path.Length == 0 ? name
                        : path + "." + name;
                    if (duplicates is not null && obj.ContainsKey(name))
                        duplicates.Add(child);
                    obj[name] = ReadValue(ref reader, child, duplicates);
                }

                return obj;
            case JsonTokenType.StartArray:
                var array = new JsonArray();
                while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
                    array.Add(ReadValue(ref reader, duplicates is null ? "" : $"{path}[{array.Count}]", duplicates));
                return array;
            case JsonTokenType.String:
                return JsonValue.Create(reader.GetString()!);
            case JsonTokenType.Number:
                return reader.TryGetInt64(out long integer) ? JsonValue.Create(integer) : JsonValue.Create(reader.GetDouble());
            case JsonTokenType.True:
                return JsonValue.Create(true);
            case JsonTokenType.False:
                return JsonValue.Create(false);
            default:
                return null;
        }
    }

    public static byte[] Utf8(JsonNode? node)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        Write(buffer, node);
        return buffer.WrittenSpan.ToArray();
    }

    public static void Write(IBufferWriter<byte> output, JsonNode? node)
    {
        using var writer = new Utf8JsonWriter(output, WriterOptions);
        if (node is null)
            writer.WriteNullValue();
        else
            node.WriteTo(writer);
    }

    public static string Text(JsonNode? node) => System.Text.Encoding.UTF8.GetString(Utf8(node));

    public static JsonObject? Obj(this JsonObject? parent, string name) =>
        parent is not null && parent.TryGetPropertyValue(name, out JsonNode? node) ? node as JsonObject : null;

    public static JsonArray? Arr(this JsonObject? parent, string name) =>
        parent is not null && parent.TryGetPropertyValue(name, out JsonNode? node) ? node as JsonArray : null;

    public static string? Str(this JsonObject? parent, string name) =>
        parent is not null && parent.TryGetPropertyValue(name, out JsonNode? node) ? AsString(node) : null;

    public static long? Int(this JsonObject? parent, string name) =>
        parent is not null && parent.TryGetPropertyValue(name, out JsonNode? node) ? AsLong(node) : null;

    public static bool Flag(this JsonObject? parent, string name) =>
        parent is not null
        && parent.TryGetPropertyValue(name, out JsonNode? node)
        && node is JsonValue value
        && value.TryGetValue(out bool b)
        && b;

    /// <summary>The child object, made when it is absent (or not an object).</summary>
    public static JsonObject Child(this JsonObject parent, string name)
    {
        if (parent.Obj(name) is { } there)
            return there;
        var made = new JsonObject();
        parent[name] = made;
        return made;
    }

    public static string? AsString(JsonNode? node) => node is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    public static long? AsLong(JsonNode? node) =>
        node is not JsonValue value ? null
        : value.TryGetValue(out long l) ? l
        : value.TryGetValue(out int i) ? i
        : null;

    public static double? AsDouble(JsonNode? node) =>
        AsLong(node) is { } l ? l
        : node is JsonValue value && value.TryGetValue(out double d) ? d
        : null;

    public static JsonNode? Copy(this JsonNode? node) => node?.DeepClone();

    public static JsonObject Copy(this JsonObject node) => (JsonObject)node.DeepClone();

    /// <summary>Deep equality; object members in any order; 1 and 1.0 are the same.</summary>
    public static bool Same(JsonNode? a, JsonNode? b)
    {
        if (ReferenceEquals(a, b))
            return true;
        switch (a, b)
        {
            case (null, _) or (_, null):
                return false;
            case (JsonObject x, JsonObject y):
                if (x.Count != y.Count)
                    return false;
                foreach ((string name, JsonNode? value) in x)
                {
                    if (!y.TryGetPropertyValue(name, out JsonNode? other) || !Same(value, other))
                        return false;
                }

                return true;
            case (JsonArray x, JsonArray y):
                if (x.Count != y.Count)
                    return false;
                for (int i = 0; i < x.Count; i++)
                {
                    if (!Same(x[i], y[i]))
                        return false;
                }

                return true;
            case (JsonValue, JsonValue):
                if (AsLong(a) is { } m && AsLong(b) is { } n)
                    return m == n;
                if (AsDouble(a) is { } p)
                    return AsDouble(b) is { } q && p == q;
                if (AsString(a) is { } s)
                    return AsString(b) is { } t && s == t;
                return a.ToJsonString() == b.ToJsonString();
            default:
                return false;
        }
    }

    /// <summary>A copy with the members of all objects in order of their names, as Go writes maps.</summary>
    public static JsonNode? Sorted(JsonNode? node) =>
        node switch
        {
            JsonObject obj => new JsonObject(
                obj.OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => KeyValuePair.Create(p.Key, Sorted(p.Value)))
            ),
            JsonArray array => new JsonArray([.. array.Select(Sorted)]),
            _ => node.Copy(),
        };

    /// <summary>The time as Kubernetes writes metav1.Time: RFC 3339, UTC, whole seconds.</summary>
    public static string Timestamp(DateTimeOffset time) =>
        time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
