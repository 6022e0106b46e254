using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>A flavor's name and properties (extra specs).</summary>
/// <param name="Name">The name, or the id where it has none.</param>
/// <param name="Properties">The properties; null: not said.</param>
internal sealed record Flavor(string Name, IReadOnlyDictionary<string, string>? Properties)
{
    private const string Expected = "expected what 'openstack flavor list --long -f json' or 'openstack flavor show -f json NAME' prints";

    /// <summary>The flavors of a JSON text: one, a list, or what Nova's API answers (<c>flavor</c>, <c>flavors</c>).</summary>
    /// <exception cref="SpecFormatException">The text is not that.</exception>
    public static IReadOnlyList<Flavor> ReadAll(SourceFile file)
    {
        try
        {
            using var json = JsonDocument.Parse(file.Text.TrimStart('\uFEFF'));
            JsonElement root = json.RootElement;
            if (root.ValueKind == JsonValueKind.Object && (Find(root, "flavors") ?? Find(root, "flavor")) is { } inner)
                root = inner;
            return root.ValueKind switch
            {
                JsonValueKind.Array => [.. root.EnumerateArray().Select(Read)],
                JsonValueKind.Object => [Read(root)],
                _ => throw Bad("it is neither an object nor a list"),
            };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Bad($"it is not JSON: {e.Message}");
        }
    }

    private static Flavor Read(JsonElement flavor)
    {
        if (flavor.ValueKind != JsonValueKind.Object)
            throw Bad($"'{Text.Shorten(flavor.GetRawText())}' is no flavor");
        string? name = (Find(flavor, "name") ?? Find(flavor, "id"))?.ToString();
        if (string.IsNullOrEmpty(name))
            throw Bad("a flavor has no name");
        return new Flavor(
            name,
            (Find(flavor, "properties") ?? Find(flavor, "extra_specs")) is { } properties ? PropertiesOf(name, properties) : null
        );
    }

    private static Dictionary<string, string> PropertiesOf(string flavor, JsonElement properties) =>
        properties.ValueKind switch
        {
            JsonValueKind.Object => Members(properties),
            JsonValueKind.String => Parse(flavor, properties.GetString()!),
            JsonValueKind.Null => [],
            _ => throw Bad($"the properties of flavor {Text.Shorten(flavor)} are neither an object nor text"),
        };

    private static Dictionary<string, string> Members(JsonElement properties)
    {
        var members = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (JsonProperty property in properties.EnumerateObject())
            members[property.Name] = property.Value.ToString();
        return members;
    }

    /// <summary>
    /// <c>a='b', c='d'</c>, as older clients write it. They escape nothing, so that a value ends at the last quote before the next key.
    /// </summary>
    private static Dictionary<string, string> Parse(string flavor, string text)
    {
        var properties = new Dictionary<string, string>(StringComparer.Ordinal);
        string rest = text.Trim();
        while (rest.Length > 0)
        {
            int open = rest.IndexOf("='", StringComparison.Ordinal);
            int end = open < 0 ? -1 : EndOfValue(rest, open + 2);
            if (end < 0)
                throw Bad($"the properties of flavor {Text.Shorten(flavor)}, '{Text.Shorten(rest)}', are not key='value', …");
            properties[rest[..open]] = rest[(open + 2)..end];
            rest = rest[(end + 1)..].TrimStart(',', ' ');
        }

        return properties;
    }

    private static int EndOfValue(string text, int from)
    {
        for (int quote = text.IndexOf('\'', from); quote >= 0; quote = text.IndexOf('\'', quote + 1))
        {
            string after = text[(quote + 1)..];
            int key = after.IndexOf("='", StringComparison.Ordinal);
            if (
                after.Length == 0
                || (after.StartsWith(", ", StringComparison.Ordinal) && key > 2 && !after[2..key].Contains('\'', StringComparison.Ordinal))
            )
            {
                return quote;
            }
        }

        return -1;
    }

    private static JsonElement? Find(JsonElement from, string name)
    {
        foreach (JsonProperty property in from.EnumerateObject())
        {
            if (string.Equals(property.Name, name, StringComparison.OrdinalIgnoreCase))
                return property.Value;
        }

        return null;
    }

    private static SpecFormatException Bad(string what) => new("flavors", $"{what}; {Expected}");
}
