using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>Which objects of a resource a list or a watch wants.</summary>
internal sealed partial class ObjectSelector
{
    private readonly List<(string Key, string Operator, HashSet<string> Values)> _labels = [];
    private readonly List<(string Field, bool Equal, string Value)> _fields = [];
    private ResourceType? _type;
    private string _namespace = "";

    /// <summary>The only name that is wanted (<c>metadata.name=x</c>).</summary>
    public string? OnlyName { get; private set; }

    public static ObjectSelector Parse(ResourceType type, string ns, string? labelSelector, string? fieldSelector)
    {
        var selector = new ObjectSelector { _type = type, _namespace = ns };
        if (!string.IsNullOrEmpty(labelSelector)) selector.ParseLabels(labelSelector);
        if (!string.IsNullOrEmpty(fieldSelector)) selector.ParseFields(fieldSelector);
        return selector;
    }

    public bool SelectsAll => _labels.Count == 0 && _fields.Count == 0 && _namespace.Length == 0;

    public string Namespace => _namespace;

    public bool Matches(StoredObject obj)
    {
        if (_namespace.Length > 0 && obj.Namespace != _namespace) return false;
        if (OnlyName is not null && obj.Name != OnlyName) return false;
        foreach (var (field, equal, value) in _fields)
        {
            if (FieldOf(obj, field) == value != equal) return false;
        }
        if (_labels.Count == 0) return true;
        var labels = obj.Metadata.Obj("labels");
        foreach (var (key, op, values) in _labels)
        {
            if (!MatchesLabel(labels.Str(key), op, values)) return false;
        }
        return true;
    }

    private static bool MatchesLabel(string? value, string op, HashSet<string> values) => op switch
    {
        "exists" => value is not null,
        "!" => value is null,
        "in" => value is not null && values.Contains(value),
        "notin" => value is null || !values.Contains(value),
        "gt" => long.TryParse(value, out var a) && a > long.Parse(values.First()),
        "lt" => long.TryParse(value, out var b) && b < long.Parse(values.First()),
        _ => false,
    };

    private string FieldOf(StoredObject obj, string field) => field switch
    {
        "metadata.name" => obj.Name,
        "metadata.namespace" => obj.Namespace,
        _ => ValueAt(obj.Value, _type!.SelectableFields[field]),
    };

    private static string ValueAt(JsonObject value, string path)
    {
        JsonNode? node = value;
        foreach (var part in path.Split('.')) node = (node as JsonObject)?[part];
        return node switch { null => "", JsonValue v => v.ToString(), _ => "" };
    }

    private void ParseFields(string text)
    {
        foreach (var term in text.Split(','))
        {
            if (term.Length == 0) continue;
            var match = FieldTerm().Match(term);
            if (!match.Success) throw ApiError.BadRequest($"invalid field selector {term}; can't understand '{term}'");
            var (field, op, value) = (match.Groups[1].Value, match.Groups[2].Value, match.Groups[3].Value);
            if (field is not ("metadata.name" or "metadata.namespace") && !_type!.SelectableFields.ContainsKey(field))
                throw ApiError.BadRequest($"field label not supported: {field}");
            if (field == "metadata.name" && op != "!=") OnlyName = value;
            _fields.Add((field, op != "!=", value));
        }
    }

    private void ParseLabels(string text)
    {
        foreach (Match match in LabelTerm().Matches(text))
        {
            var term = match.Value.Trim();
            if (term.Length == 0) continue;
            if (SetTerm().Match(term) is { Success: true } set)
            {
                var values = set.Groups[3].Value.Split(',').Select(v => v.Trim()).ToHashSet(StringComparer.Ordinal);
                _labels.Add((CheckKey(set.Groups[1].Value), set.Groups[2].Value, values));
            }
            else if (CompareTerm().Match(term) is { Success: true } compare)
            {
                var op = compare.Groups[2].Value switch { "!=" => "notin", ">" => "gt", "<" => "lt", _ => "in" };
                var value = compare.Groups[3].Value;
                if (op is "gt" or "lt" && !long.TryParse(value, out _))
                    throw ApiError.BadRequest($"unable to parse requirement: values[0][{compare.Groups[1].Value}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer");
                _labels.Add((CheckKey(compare.Groups[1].Value), op, [value]));
            }
            else if (ExistsTerm().Match(term) is { Success: true } exists)
            {
                _labels.Add((CheckKey(exists.Groups[2].Value), exists.Groups[1].Length > 0 ? "!" : "exists", []));
            }
            else
            {
                throw ApiError.BadRequest($"unable to parse requirement: found '{term}', expected: ',', '!', in, notin, =, ==, !=, <, > or an identifier");
            }
        }
    }

    private static string CheckKey(string key)
    {
        if (MetadataRules.QualifiedNameError(key) is { } error)
            throw ApiError.BadRequest($"unable to parse requirement: <nil>: Invalid value: \"{key}\": {error}");
        return key;
    }

    [GeneratedRegex(@"^([^=!]+)(==|=|!=)(.*)$")]
    private static partial Regex FieldTerm();

    // A comma inside parentheses belongs to its term.
    [GeneratedRegex(@"(?:[^,(]|\([^)]*\))+")]
    private static partial Regex LabelTerm();

    [GeneratedRegex(@"^([^\s!=<>(),]+)\s+(in|notin)\s*\(([^()]*)\)$")]
    private static partial Regex SetTerm();

    [GeneratedRegex(@"^([^\s!=<>(),]+)\s*(==|=|!=|>|<)\s*([^\s!=<>(),]*)$")]
    private static partial Regex CompareTerm();

    [GeneratedRegex(@"^(!?)\s*([^\s!=<>(),]+)$")]
    private static partial Regex ExistsTerm();
}
