using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using PciOperator.Api;
using PciOperator.Kubernetes.Schema;
using PciOperator.Sandbox.ApiServer;

namespace PciOperator.Sandbox.Validation;

/// <summary>The rules of one record and of the records in it.</summary>
internal sealed class RecordRules
{
    private readonly Func<JsonObject, JsonObject?, IEnumerable<(string? FieldPath, string Message)>>? _own;
    private readonly List<(string Field, string[]? Keys, RecordRules Rules)> _fields = [];

    private RecordRules(Type record)
    {
        if (record.GetInterfaces().Any(i => i.IsGenericType && i.GetGenericTypeDefinition() == typeof(IHasCelRules<>)))
        {
            _own = typeof(RecordRules)
                .GetMethod(nameof(Own), BindingFlags.NonPublic | BindingFlags.Static)!
                .MakeGenericMethod(record)
                .CreateDelegate<Func<JsonObject, JsonObject?, IEnumerable<(string?, string)>>>();
        }

        foreach (PropertyInfo property in record.GetProperties(BindingFlags.Public | BindingFlags.Instance))
        {
            Type type = property.PropertyType;
            bool isList = type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>);
            if (Of(isList ? type.GetGenericArguments()[0] : type) is not { } rules)
                continue;
            string name =
                property.GetCustomAttribute<JsonPropertyNameAttribute>()?.Name ?? JsonNamingPolicy.CamelCase.ConvertName(property.Name);
            _fields.Add((name, property.GetCustomAttribute<ListMapKeysAttribute>()?.Keys, rules));
        }
    }

    /// <summary>The rules of a record; null when neither it nor anything in it has one.</summary>
    public static RecordRules? Of(Type record)
    {
        if (record.Namespace != typeof(PciDeviceSpec).Namespace || !record.IsClass)
            return null;
        var rules = new RecordRules(record);
        return rules._own is null && rules._fields.Count == 0 ? null : rules;
    }

    /// <summary>
    /// What is broken in <paramref name="value"/>; what an update leaves as it was is not looked at (Kubernetes' validation ratcheting).
    /// </summary>
    public IEnumerable<FieldError> Broken(JsonObject value, JsonObject? old, string path)
    {
        if (old is not null && JsonNode.DeepEquals(value, old))
            yield break;
        foreach ((string? field, string message) in _own?.Invoke(value, old) ?? [])
            yield return new FieldError(path.Length == 0 ? (field ?? "").TrimStart('.') : path + field, message);
        foreach ((string field, string[]? keys, RecordRules rules) in _fields)
        {
            (JsonNode? now, JsonNode? then) = (value[field], old?[field]);
            if (then is not null && JsonNode.DeepEquals(now, then))
                continue;
            string at = path.Length == 0 ? field : $"{path}.{field}";
            switch (now)
            {
                case JsonObject record:
                    foreach (FieldError error in rules.Broken(record, then as JsonObject, at))
                        yield return error;
                    break;
                case JsonArray list:
                    for (int i = 0; i < list.Count; i++)
                    {
                        if (list[i] is not JsonObject item)
                            continue;
                        foreach (FieldError error in rules.Broken(item, Counterpart(item, then as JsonArray, keys), $"{at}[{i}]"))
                            yield return error;
                    }

                    break;
            }
        }
    }

    // Items of a map list keep their identity over an update; those of other lists have none.
    private static JsonObject? Counterpart(JsonObject item, JsonArray? old, string[]? keys) =>
        keys is null ? null : old?.OfType<JsonObject>().FirstOrDefault(o => keys.All(key => JsonNode.DeepEquals(o[key], item[key])));

    private static IEnumerable<(string?, string)> Own<T>(JsonObject value, JsonObject? old)
        where T : class, IHasCelRules<T>
    {
        var type = (JsonTypeInfo<T>)PciOperatorJsonContext.Default.GetTypeInfo(typeof(T))!;
        T self = value.Deserialize(type)!;
        T? oldSelf = old?.Deserialize(type);
        return T.Rules.Where(rule => !rule.Holds(self, oldSelf)).Select(rule => (rule.FieldPath, rule.Message));
    }
}
