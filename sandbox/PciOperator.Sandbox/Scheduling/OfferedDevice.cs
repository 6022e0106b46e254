using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>A device of a ResourceSlice, and where it can be used.</summary>
internal sealed partial record OfferedDevice(JsonObject Slice, JsonObject Device)
{
    private const int MostTerms = 10_000;
    private static readonly ConcurrentDictionary<string, List<(string Domain, string Name, string Value)>> Terms = new(
        StringComparer.Ordinal
    );

    public string Driver => Slice.Text("spec", "driver");

    public string Pool => Slice.Text("spec", "pool", "name");

    public string Name => Device.Text("name");

    public (string, string, string) Id => (Driver, Pool, Name);

    public bool HasConditions => Device.Texts("bindingConditions").Count > 0;

    /// <summary>The devices of complete pools: of each the slices of its highest generation, when all of them are there.</summary>
    public static IReadOnlyList<OfferedDevice> Of(IEnumerable<JsonObject> slices) =>
        [
            .. slices
                .GroupBy(s => (s.Text("spec", "driver"), s.Text("spec", "pool", "name")))
                .SelectMany(pool =>
                {
                    long newest = pool.Max(s => s.Number("spec", "pool", "generation"));
                    List<JsonObject> current = [.. pool.Where(s => s.Number("spec", "pool", "generation") == newest)];
                    return current.Count == current[0].Number("spec", "pool", "resourceSliceCount") ? current : [];
                })
                .SelectMany(s => s.Items("spec", "devices").Select(d => new OfferedDevice(s, d)))
                // Those that are there at once come before those that have to be waited for (KEP-5007).
                .OrderBy(d => d.HasConditions),
        ];

    /// <summary>Whether it can be used on a node.</summary>
    public bool IsOn(JsonObject node) =>
        Slice.At("spec", "allNodes") is not null
        || (
            Slice.Text("spec", "nodeName") is { Length: > 0 } name
                ? name == node.Text("metadata", "name")
                : NodeTerms.Match(Slice.At("spec", "nodeSelector"), node)
        );

    /// <summary>Whether a selector lets it through.</summary>
    /// <remarks>CEL is not evaluated: what is known is comparisons of driver and attributes with texts, joined by &amp;&amp;.</remarks>
    /// <exception cref="NotSupportedException">The expression is anything else.</exception>
    public bool Matches(string expression) => Terms.GetOrAdd(expression, Parse).TrueForAll(t => t.Value == Value(t.Domain, t.Name));

    private static List<(string Domain, string Name, string Value)> Parse(string expression)
    {
        // Each claim's are its own: what was parsed once is kept as long as there are few.
        if (Terms.Count > MostTerms)
            Terms.Clear();
        return
        [
            .. expression
                .Split("&&", StringSplitOptions.TrimEntries)
                .Select(term =>
                    Comparison().Match(term) is { Success: true } parts
                        ? (parts.Groups["domain"].Value, parts.Groups["name"].Value, parts.Groups["value"].Value)
                        : throw new NotSupportedException(
                            $"the simulated scheduler knows device.driver == \"…\" and device.attributes[\"…\"].… == \"…\", joined by &&, and no other CEL: {expression}"
                        )
                ),
        ];
    }

    /// <summary>What a result says of it.</summary>
    public JsonObject Result(string request)
    {
        var result = new JsonObject
        {
            ["request"] = request,
            ["driver"] = Driver,
            ["pool"] = Pool,
            ["device"] = Name,
        };
        foreach (string field in new[] { "bindingConditions", "bindingFailureConditions" })
        {
            if (Device.At(field) is JsonArray conditions)
                result[field] = conditions.DeepClone();
        }

        return result;
    }

    private string? Value(string domain, string name)
    {
        if (domain.Length == 0)
            return Driver;
        // A name without a domain is in the driver's.
        JsonNode? attribute = Device.At("attributes", $"{domain}/{name}") ?? (domain == Driver ? Device.At("attributes", name) : null);
        return (attribute.At("string") ?? attribute.At("version"))?.ToString();
    }

    [GeneratedRegex("""^device\.(driver|attributes\["(?<domain>[^"]+)"\]\.(?<name>[A-Za-z_][A-Za-z0-9_]*)) == "(?<value>[^"\\]*)"$""")]
    private static partial Regex Comparison();
}

/// <summary>Node selectors as resource.k8s.io has them: terms any of which is met, requirements all of which are.</summary>
internal static class NodeTerms
{
    /// <summary>Whether a node is meant; no selector means any.</summary>
    public static bool Match(JsonNode? selector, JsonObject node) =>
        selector is null || selector.Items("nodeSelectorTerms").Any(term => IsMet(term, node));

    /// <summary>This node and no other.</summary>
    public static JsonObject Only(string node) =>
        new()
        {
            ["nodeSelectorTerms"] = new JsonArray(
                new JsonObject
                {
                    ["matchFields"] = new JsonArray(
                        new JsonObject
                        {
                            ["key"] = "metadata.name",
                            ["operator"] = "In",
                            ["values"] = new JsonArray(node),
                        }
                    ),
                }
            ),
        };

    private static bool IsMet(JsonObject term, JsonObject node) =>
        term.Items("matchExpressions").All(r => Holds(r, node.At("metadata", "labels", r.Text("key"))?.ToString()))
        && term.Items("matchFields")
            .All(r =>
                r.Text("key") == "metadata.name"
                    ? Holds(r, node.Text("metadata", "name"))
                    : throw new NotSupportedException($"matchFields knows metadata.name alone, not {r.Text("key")}")
            );

    private static bool Holds(JsonObject requirement, string? value) =>
        requirement.Text("operator") switch
        {
            "In" => value is not null && requirement.Texts("values").Contains(value),
            "NotIn" => value is null || !requirement.Texts("values").Contains(value),
            "Exists" => value is not null,
            "DoesNotExist" => value is null,
            string other => throw new NotSupportedException($"the simulated scheduler knows no node selector operator {other}"),
        };
}
