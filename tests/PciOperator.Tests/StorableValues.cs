using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Tests;

/// <summary>
/// Values for each scalar of a CRD's schema, one at a time in an object that is otherwise as small as the schema allows: what is at the
/// edges of the schema, beyond them, and odd in JSON. The server says which of them it stores.
/// </summary>
internal sealed partial class StorableValues(JsonElement schema)
{
    // Whatever JSON's text is to be at the place, such as 1e3 or half a surrogate pair, no JsonNode keeps.
    private const string Place = "@place@";

    private static readonly string[] Samples = ["a", "Aa", "True", "8086", "0000:21:00.0", "ffffffff:ff:1f.7", "000000", "x=1"];

    private static readonly string[] Times =
    [
        "2024-01-01T00:00:00Z",
        "2016-12-31t23:59:59z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:60Z",
        "2016-12-31T23:59:59.1234567890123Z",
        "1969-12-31T23:59:59+99:99",
        "2100-02-29T00:00:00Z",
        "2036-01-01T00:00:00Z",
    ];

    /// <summary>JSON for the whole property (<c>spec</c> or <c>status</c>), and where in it which value is.</summary>
    /// <param name="property">Which.</param>
    /// <param name="besides">What else it has, unless that is what is varied.</param>
    public IEnumerable<(string What, string Json)> Of(string property, JsonObject? besides = null)
    {
        JsonElement root = schema.GetProperty("properties").GetProperty(property);
        foreach ((string path, JsonElement leaf) in Leaves(root, property))
        {
            foreach (string value in ValuesOf(leaf))
            {
                JsonObject tree = Tree(root, path[property.Length..]).AsObject();
                foreach ((string name, JsonNode? fix) in besides ?? [])
                    tree.TryAdd(name, fix?.DeepClone());
                yield return ($"{path} = {Shortened(value)}", tree.ToJsonString().Replace($"\"{Place}\"", value, StringComparison.Ordinal));
            }
        }
    }

    /// <summary>The smallest that the schema allows.</summary>
    public JsonNode Smallest(string property) => Smallest(schema.GetProperty("properties").GetProperty(property));

    private static string Shortened(string value) => value.Length <= 40 ? value : $"{value[..40]}… ({value.Length})";

    private static IEnumerable<(string Path, JsonElement Schema)> Leaves(JsonElement node, string path)
    {
        if (node.TryGetProperty("properties", out JsonElement properties))
        {
            foreach (JsonProperty property in properties.EnumerateObject())
            {
                foreach ((string Path, JsonElement Schema) leaf in Leaves(property.Value, $"{path}.{property.Name}"))
                    yield return leaf;
            }
        }
        else if (node.TryGetProperty("items", out JsonElement items))
        {
            foreach ((string Path, JsonElement Schema) leaf in Leaves(items, $"{path}[]"))
                yield return leaf;
        }
        else if (node.TryGetProperty("additionalProperties", out JsonElement values) && values.ValueKind == JsonValueKind.Object)
        {
            foreach ((string Path, JsonElement Schema) leaf in Leaves(values, $"{path}{{}}"))
                yield return leaf;
        }
        else
        {
            yield return (path, node);
        }
    }

    private static JsonNode Tree(JsonElement node, string path)
    {
        if (path.Length == 0)
            return Place;
        if (path.StartsWith("[]", StringComparison.Ordinal))
            return new JsonArray(Tree(node.GetProperty("items"), path[2..]));
        if (path.StartsWith("{}", StringComparison.Ordinal))
            return new JsonObject { ["key"] = Tree(node.GetProperty("additionalProperties"), path[2..]) };
        string name = NextName().Match(path).Groups[1].Value;
        JsonObject obj = Smallest(node).AsObject();
        obj[name] = Tree(node.GetProperty("properties").GetProperty(name), path[(name.Length + 1)..]);
        return obj;
    }

    private static JsonNode Smallest(JsonElement node)
    {
        if (node.TryGetProperty("enum", out JsonElement words))
            return words[0].GetString()!;
        switch (node.GetProperty("type").GetString())
        {
            case "object":
                var obj = new JsonObject();
                foreach (string name in Required(node))
                    obj[name] = Smallest(node.GetProperty("properties").GetProperty(name));
                return obj;
            case "array":
                return new JsonArray([
                    .. Enumerable.Range(0, Number(node, "minItems") is { } n ? (int)n : 0).Select(_ => Smallest(node.GetProperty("items"))),
                ]);
            case "integer":
                return Number(node, "minimum") ?? 1;
            case "boolean":
                return true;
            default:
                if (node.TryGetProperty("format", out JsonElement format) && format.GetString() == "date-time")
                    return Times[0];
                string pattern = node.TryGetProperty("pattern", out JsonElement text) ? text.GetString()! : "";
                return Samples.First(t => Regex.IsMatch(t, pattern) && t.Length >= (Number(node, "minLength") ?? 0));
        }
    }

    private static IEnumerable<string> Required(JsonElement node) =>
        node.TryGetProperty("required", out JsonElement required) ? required.EnumerateArray().Select(r => r.GetString()!) : [];

    private static long? Number(JsonElement node, string name) =>
        node.TryGetProperty(name, out JsonElement number) ? number.GetInt64() : null;

    private static IEnumerable<string> ValuesOf(JsonElement node)
    {
        yield return "null";
        if (node.TryGetProperty("enum", out JsonElement words))
        {
            foreach (JsonElement word in words.EnumerateArray())
                yield return Quoted(word.GetString()!);
            yield return "\"\"";
            yield return "\"OfALaterVersion\"";
            yield break;
        }

        IEnumerable<string> values = node.GetProperty("type").GetString() switch
        {
            "integer" => Numbers(node),
            "boolean" => ["true", "false", "1", "\"true\""],
            _ when node.TryGetProperty("format", out JsonElement format) && format.GetString() == "date-time" =>
            [
                .. Times.Select(Quoted),
                "\"\"",
                "5",
            ],
            _ => Texts(node),
        };
        foreach (string value in values)
            yield return value;
    }

    private static IEnumerable<string> Numbers(JsonElement node)
    {
        string[] odd =
        [
            "0",
            "-0",
            "-1",
            "1.0",
            "1e3",
            "1E+3",
            "1.5",
            "2147483647",
            "2147483648",
            "-2147483649",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1e18",
            "1e19",
            "1e300",
            "-1e300",
            "1e999",
        ];
        return
        [
            .. odd,
            .. new[] { Number(node, "minimum"), Number(node, "maximum") }
                .OfType<long>()
                .Select(n => n.ToString(CultureInfo.InvariantCulture)),
        ];
    }

    private static IEnumerable<string> Texts(JsonElement node)
    {
        int most = (int)Math.Min(Number(node, "maxLength") ?? 1000, 33_000);
        return
        [
            "\"\"",
            "\" \"",
            .. Samples.Select(Quoted),
            Quoted(new string('a', most)),
            Quoted(new string('0', most)),
            Quoted(string.Concat(Enumerable.Repeat("😀", most))),
            """
                "\u0000\u001b[31mred\u0007\u009b\u202e\u2028\u2066"
                """.Trim(),
            "\"\\ud800\"",
            "\"\\udc00x\\ud800\"",
            "\"a\\nb\"",
            "5",
            "{}",
        ];
    }

    private static string Quoted(string text)
    {
        var quoted = new StringBuilder("\"");
        quoted.Append(JsonEncodedText.Encode(text));
        return quoted.Append('"').ToString();
    }

    [GeneratedRegex(@"^\.([A-Za-z0-9]+)")]
    private static partial Regex NextName();
}
