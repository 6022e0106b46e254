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
    private readonly Func<JsonObject, JsonObject?, IEnumerable<(string? FieldPath, string Message)>>? own;
    private readonly List<(string Field, string[]? Keys, RecordRules Rules)> fields = [];

    private RecordRules(Type record)
    {
        if (record.GetInterfaces().Any(i => i.IsGenericType && i.GetGenericTypeDefinition() == typeof(IHasCelRules<>)))
            own = typeof(RecordRules).GetMethod(nameof(Own), BindingFlags.NonPublic | BindingFlags.Static)!
                .MakeGenericMethod(record)
                .CreateDelegate<Func<JsonObject, JsonObject?, IEnumerable<(string?, string)>>>();
        foreach (var property in record.GetProperties(BindingFlags.Public | BindingFlags.Instance))
        {
            var type = property.PropertyType;
            var isList = type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>);
            if (Of(isList ? type.GetGenericArguments()[0] : type) is not { } rules)
                continue;
            var name = property.GetCustomAttribute<JsonPropertyNameAttribute>()?.Name ?? JsonNamingPolicy.CamelCase.ConvertName(property.Name);
            fields.Add((name, property.GetCustomAttribute<ListMapKeysAttribute>()?.Keys, rules));
        }
    }

    /// <summary>The rules of a record; null when neither it nor anything in it has one.</summary>
    public static RecordRules? Of(Type record)
    {
        if (record.Namespace != typeof(PciDeviceSpec).Namespace || !record.IsClass)
            return null;
        var rules = new RecordRules(record);
        return rules.own is null && rules.fields.Count == 0 ? null : rules;
    }

    /// <summary>What is broken in <paramref name="value"/>; what an update leaves as it was is not looked at (Kubernetes' validation ratcheting).</summary>
    public IEnumerable<FieldError> Broken(JsonObject value, JsonObject? old, string path)
    {
        if (old is not null && JsonNode.DeepEquals(value, old))
            yield break;
        foreach (var (field, message) in own?.Invoke(value, old) ?? [])
            yield return new FieldError(path.Length == 0 ? (field ?? "").TrimStart('.') : path + field, message);
        foreach (var (field, keys, rules) in fields)
        {
            var (now, then) = (value[field], old?[field]);
            if (then is not null && JsonNode.DeepEquals(now, then))
                continue;
            var at = path.Length == 0 ? field : $"{path}.{field}";
            switch (now)
            {
                case JsonObject record:
                    foreach (var error in rules.Broken(record, then as JsonObject, at))
                        yield return error;
                    break;
                case JsonArray list:
                    for (var i = 0; i < list.Count; i++)
                    {
                        if (list[i] is not JsonObject item)
                            continue;
                        foreach (var error in rules.Broken(item, Counterpart(item, then as JsonArray, keys), $"{at}[{i}]"))
                            yield return error;
                    }
                    break;
            }
        }
    }

    // Items of a map list keep their identity over an update; those of other lists have none.
    private static JsonObject? Counterpart(JsonObject item, JsonArray? old, string[]? keys) => keys is null
        ? null
        : old?.OfType<JsonObject>().FirstOrDefault(o => keys.All(key => JsonNode.DeepEquals(o[key], item[key])));

    private static IEnumerable<(string?, string)> Own<T>(JsonObject value, JsonObject? old) where T : class, IHasCelRules<T>
    {
        var type = (JsonTypeInfo<T>)PciOperatorJsonContext.Default.GetTypeInfo(typeof(T))!;
        var self = value.Deserialize(type)!;
        var oldSelf = old?.Deserialize(type);
        return T.Rules.Where(rule => !rule.Holds(self, oldSelf)).Select(rule => (rule.FieldPath, rule.Message));
    }
}
