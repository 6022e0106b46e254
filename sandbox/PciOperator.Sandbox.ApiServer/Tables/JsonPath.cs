using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.ApiServer.Tables;

/// <summary>
/// The JSONPath of printer columns: fields (<c>.a.b</c>, <c>['a.b']</c>), <c>[0]</c>, <c>[*]</c> and filters
/// (<c>[?(@.type=="Ready")]</c>).
/// </summary>
internal sealed partial class JsonPath
{
    private readonly List<Func<JsonNode, IEnumerable<JsonNode>>> _steps = [];

    public JsonPath(string text)
    {
        string rest = text.Trim().TrimStart('{').TrimEnd('}').TrimStart('$');
        while (rest.Length > 0)
        {
            Match match = Step().Match(rest);
            if (!match.Success)
                throw new FormatException($"unrecognized JSONPath at '{rest}' in '{text}'");
            rest = rest[match.Length..];
            if (match.Groups["field"].Success)
                AddField(match.Groups["field"].Value.Replace("\\.", ".", StringComparison.Ordinal));
            else if (match.Groups["quoted"].Success)
                AddField(match.Groups["quoted"].Value);
            else if (match.Groups["index"].Success)
                AddIndex(int.Parse(match.Groups["index"].Value, CultureInfo.InvariantCulture));
            else if (match.Groups["all"].Success)
                _steps.Add(All);
            else
                AddFilter(match.Groups["path"].Value, match.Groups["op"].Value, match.Groups["value"].Value);
        }
    }

    public IReadOnlyList<JsonNode> Find(JsonNode root)
    {
        IEnumerable<JsonNode> found = [root];
        foreach (Func<JsonNode, IEnumerable<JsonNode>> step in _steps)
            found = found.SelectMany(step);
        return [.. found];
    }

    private static IEnumerable<JsonNode> All(JsonNode node) =>
        node switch
        {
            JsonArray array => array.OfType<JsonNode>(),
            JsonObject obj => obj.Select(p => p.Value).OfType<JsonNode>(),
            _ => [],
        };

    private void AddField(string name) => _steps.Add(node => node is JsonObject obj && obj[name] is { } value ? [value] : []);

    private void AddIndex(int index) =>
        _steps.Add(node =>
            node is JsonArray array
            && (index < 0 ? array.Count + index : index) is var i
            && i >= 0
            && i < array.Count
            && array[i] is { } value
                ? [value]
                : []
        );

    private void AddFilter(string path, string op, string literal)
    {
        var inner = new JsonPath(path);
        string text = literal.Trim().Trim('"', '\'');
        _steps.Add(node =>
            All(node)
                .Where(item =>
                {
                    IReadOnlyList<JsonNode> values = inner.Find(item);
                    return op.Length == 0 ? values.Count > 0 : values.Any(v => Plain(v) == text) == (op == "==");
                })
        );
    }

    public static string Plain(JsonNode? node) =>
        node switch
        {
            null => "",
            JsonValue value when value.TryGetValue(out string? s) => s,
            JsonValue value when value.TryGetValue(out bool b) => b ? "true" : "false",
            _ => Json.Text(node),
        };

    [GeneratedRegex(
        """
            ^(?:\.(?<field>(?:\\\.|[A-Za-z0-9_\-/])+)|\[\s*(?:'(?<quoted>[^']*)'|"(?<quoted>[^"]*)"|(?<index>-?\d+)|(?<all>\*)|\?\(\s*@(?<path>[^=!)]*?)\s*(?:(?<op>==|!=)\s*(?<value>[^)]*?)\s*)?\))\s*\]|\.(?<all>\*))
            """
    )]
    private static partial Regex Step();
}
