using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>Which objects of a resource a list or a watch wants: by namespace, labels and fields.</summary>
internal sealed partial class ObjectSelector
{
    private readonly ResourceType _type;
    private readonly string _namespace;
    private readonly LabelSelector _labels;
    private readonly List<(string Field, bool Equal, string Value)> _fields = [];

    private ObjectSelector(ResourceType type, string ns, LabelSelector labels) => (_type, _namespace, _labels) = (type, ns, labels);

    /// <summary>The only name that is wanted (<c>metadata.name=x</c>).</summary>
    public string? OnlyName { get; private set; }

    /// <exception cref="ApiError">400: a selector can't be read, or selects by a field that this resource hasn't.</exception>
    public static ObjectSelector Parse(ResourceType type, string ns, string? labelSelector, string? fieldSelector)
    {
        var selector = new ObjectSelector(type, ns, LabelSelector.Parse(labelSelector ?? ""));
        selector.ParseFields(fieldSelector ?? "");
        return selector;
    }

    public bool Matches(StoredObject obj)
    {
        if (_namespace.Length > 0 && obj.Namespace != _namespace)
            return false;
        if (OnlyName is not null && obj.Name != OnlyName)
            return false;
        foreach ((string field, bool equal, string value) in _fields)
        {
            if (FieldOf(obj, field) == value != equal)
                return false;
        }

        return _labels.IsEmpty || _labels.Matches(obj.Labels);
    }

    private string FieldOf(StoredObject obj, string field) =>
        field switch
        {
            "metadata.name" => obj.Name,
            "metadata.namespace" => obj.Namespace,
            _ => ValueAt(obj.Value, _type.SelectableFields[field]),
        };

    private static string ValueAt(JsonObject value, string path)
    {
        JsonNode? node = value;
        foreach (string part in path.Split('.'))
            node = (node as JsonObject)?[part];
        return node is JsonValue scalar ? Tables.JsonPath.Plain(scalar) : "";
    }

    private void ParseFields(string text)
    {
        foreach (string term in text.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            Match match = FieldTerm().Match(term);
            if (!match.Success)
                throw ApiError.BadRequest($"invalid selector: '{text}'; can't understand '{term}'");
            (string? field, bool equal, string? value) = (match.Groups[1].Value, match.Groups[2].Value != "!=", match.Groups[3].Value);
            if (field is not ("metadata.name" or "metadata.namespace") && !_type.SelectableFields.ContainsKey(field))
                throw ApiError.BadRequest($"field label not supported: {field}");
            if (field == "metadata.name" && equal)
                OnlyName = value;
            _fields.Add((field, equal, value));
        }
    }

    [GeneratedRegex(@"^([^=!]+)(==|=|!=)(.*)$")]
    private static partial Regex FieldTerm();
}
