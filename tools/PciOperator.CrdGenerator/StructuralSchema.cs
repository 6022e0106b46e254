using System.Collections;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.CrdGenerator;

/// <summary>
/// The structural schema of a kind: every field described, every list, map and string with a limit (CEL's cost is counted from those).
/// </summary>
internal sealed class StructuralSchema(Type kind)
{
    private static readonly XmlDocumentation Documentation = new();
    private readonly NullabilityInfoContext _nullability = new();
    private readonly List<string> _problems = [];

    /// <summary>The schema of the whole object.</summary>
    /// <exception cref="IncompleteSchemaException">Fields lack a description or a limit.</exception>
    public YamlMap ToMap()
    {
        YamlMap schema = OfObject(kind, kind.Name, Documentation.Of(kind));
        return _problems.Count == 0 ? schema : throw new IncompleteSchemaException(kind, _problems);
    }

    private YamlMap OfObject(Type type, string path, string? description)
    {
        YamlMap schema = Described(path, description);
        schema["type"] = "object";
        var required = new List<string>();
        var properties = new YamlMap();
        foreach (PropertyInfo property in PropertiesOf(type))
        {
            string name = JsonName(property);
            properties[name] = OfProperty(property, $"{path}.{name}");
            if (IsRequired(property))
                required.Add(name);
        }

        schema["properties"] = properties;
        if (required.Count > 0)
            schema["required"] = required;
        if (!kind.IsDefined(typeof(WrittenByProgramsAttribute)) && RulesOf(type) is { Count: > 0 } rules)
            schema["x-kubernetes-validations"] = rules;
        return schema;
    }

    private YamlMap OfProperty(PropertyInfo property, string path)
    {
        if (property.PropertyType == typeof(V1ObjectMeta))
            return new YamlMap { ["type"] = "object" }; // Described and limited by the server.

        if (property.DeclaringType == kind && IdentityOf(property.Name) is { } identity)
            return new YamlMap { ["description"] = $"Always `{identity}`.", ["type"] = "string" }; // Limited by the server.

        string? description = Documentation.Of(property);
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        YamlMap schema;
        if (ItemType(type) is { } item)
            schema = OfList(property, item, path, description);
        else if (typeof(IEnumerable).IsAssignableFrom(type) && type != typeof(string))
            schema = OfMap(property, type, path, description);
        else
            schema = OfValue(property, type, path, description);

        if (property.GetCustomAttribute<DefaultAttribute>() is { } value)
            schema["default"] = Scalar(JsonDocument.Parse(value.Json).RootElement);
        return schema;
    }

    private string? IdentityOf(string property)
    {
        KubernetesEntityAttribute entity = kind.GetCustomAttribute<KubernetesEntityAttribute>()!;
        return property switch
        {
            nameof(IKubernetesObject.ApiVersion) => $"{entity.Group}/{entity.ApiVersion}",
            nameof(IKubernetesObject.Kind) => entity.Kind,
            _ => null,
        };
    }

    private YamlMap OfList(PropertyInfo property, Type item, string path, string? description)
    {
        YamlMap schema = Described(path, description);
        schema["type"] = "array";
        Bound(schema, property.GetCustomAttribute<ItemsAttribute>(), "Items", path, "list");
        if (property.GetCustomAttribute<ListMapKeysAttribute>() is { } map)
        {
            schema["x-kubernetes-list-type"] = "map";
            schema["x-kubernetes-list-map-keys"] = map.Keys;
        }
        else
        {
            schema["x-kubernetes-list-type"] = property.IsDefined(typeof(ListSetAttribute)) ? "set" : "atomic";
        }

        YamlMap items = OfValue(property, item, path + "[]", null, isItem: true);
        if (property.GetCustomAttribute<ListMapKeysAttribute>() is { WholeItems: true })
            items["x-kubernetes-map-type"] = "atomic";
        schema["items"] = items;
        return schema;
    }

    private YamlMap OfMap(PropertyInfo property, Type type, string path, string? description)
    {
        Type[] arguments = type.GetGenericArguments();
        if (arguments is not [{ } key, { } value] || key != typeof(string))
            throw new NotSupportedException($"{path}: a map needs string keys, and {type} has none.");
        YamlMap schema = Described(path, description);
        schema["type"] = "object";
        Bound(schema, property.GetCustomAttribute<ItemsAttribute>(), "Properties", path, "map");
        schema["additionalProperties"] = OfValue(property, value, path + "[]", null, isItem: true);
        return schema;
    }

    // A value, or an item of a list or map: then the property's attributes are about the item, and it needs no description.
    private YamlMap OfValue(PropertyInfo property, Type type, string path, string? description, bool isItem = false)
    {
        if (type == typeof(V1Condition))
            return ConditionSchema.Of();
        if (type.IsClass && type != typeof(string))
            return OfObject(type, path, description ?? Documentation.Of(type));

        YamlMap schema = isItem ? new YamlMap() : Described(path, description);
        if (type.IsEnum)
        {
            schema["type"] = "string";
            schema["enum"] = type.GetFields(BindingFlags.Public | BindingFlags.Static)
                .Select(f => f.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()?.Name ?? f.Name)
                .Where(word => word != property.GetCustomAttribute<ExceptAttribute>()?.Word)
                .ToList();
        }
        else if (type == typeof(string))
        {
            schema["type"] = "string";
            LengthAttribute? length = property.GetCustomAttribute<LengthAttribute>();
            if (length is null)
                _problems.Add($"{path} is a string without a [Length]");
            if (length?.Min > 0)
                schema["minLength"] = length.Min;
            if (length is not null)
                schema["maxLength"] = length.Max;
            if (property.GetCustomAttribute<PatternAttribute>() is { } pattern)
                schema["pattern"] = pattern.Pattern;
        }
        else if (type == typeof(DateTimeOffset))
        {
            schema["type"] = "string";
            schema["format"] = "date-time";
        }
        else if (type == typeof(bool))
        {
            schema["type"] = "boolean";
        }
        else if (type == typeof(int) || type == typeof(long))
        {
            schema["type"] = "integer";
            schema["format"] = type == typeof(int) ? "int32" : "int64";
            if (property.GetCustomAttribute<RangeAttribute>() is { } range)
            {
                schema["minimum"] = range.Min;
                schema["maximum"] = range.Max;
            }
        }
        else
        {
            throw new NotSupportedException($"{path}: no schema for {type}.");
        }

        return schema;
    }

    private YamlMap Described(string path, string? description)
    {
        if (string.IsNullOrWhiteSpace(description))
        {
            _problems.Add($"{path} has no description: give it a <summary>");
            return [];
        }

        return new YamlMap { ["description"] = description };
    }

    private void Bound(YamlMap schema, ItemsAttribute? bounds, string suffix, string path, string what)
    {
        if (bounds is null)
        {
            _problems.Add($"{path} is a {what} without an [Items]");
            return;
        }

        if (bounds.Min > 0)
            schema["min" + suffix] = bounds.Min;
        schema["max" + suffix] = bounds.Max;
    }

    // The JSON name, and with it the order: a record's own fields as written, then its base's.
    private static IEnumerable<PropertyInfo> PropertiesOf(Type type)
    {
        for (Type? t = type; t is not null && t != typeof(object); t = t.BaseType)
        {
            foreach (
                PropertyInfo property in t.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly)
                    .OrderBy(p => p.MetadataToken)
            )
            {
                yield return property;
            }
        }
    }

    private static string JsonName(PropertyInfo property) =>
        property.GetCustomAttribute<JsonPropertyNameAttribute>()?.Name ?? JsonNamingPolicy.CamelCase.ConvertName(property.Name);

    // What C# can't leave out and the server doesn't fill in.
    private bool IsRequired(PropertyInfo property) =>
        property.IsDefined(typeof(RequiredAttribute))
        || (
            !property.IsDefined(typeof(DefaultAttribute))
            && property.PropertyType != typeof(V1ObjectMeta)
            && _nullability.Create(property).ReadState is NullabilityState.NotNull
        );

    private static Type? ItemType(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>) ? type.GetGenericArguments()[0] : null;

    private static List<YamlMap> RulesOf(Type type)
    {
        bool declares = type.GetInterfaces()
            .Any(i => i.IsGenericType && i.GetGenericTypeDefinition() == typeof(IHasCelRules<>) && i.GetGenericArguments()[0] == type);
        if (!declares)
            return [];
        MethodInfo read = typeof(StructuralSchema).GetMethod(nameof(RulesOfRecord), BindingFlags.NonPublic | BindingFlags.Static)!;
        return (List<YamlMap>)read.MakeGenericMethod(type).Invoke(null, null)!;
    }

    private static List<YamlMap> RulesOfRecord<T>()
        where T : class, IHasCelRules<T> =>
        [
            .. T.Rules.Select(rule =>
            {
                var map = new YamlMap { ["rule"] = rule.Rule, ["message"] = rule.Message };
                if (rule.FieldPath is { } field)
                    map["fieldPath"] = field;
                return map;
            }),
        ];

    private static object Scalar(JsonElement value) =>
        value.ValueKind switch
        {
            JsonValueKind.String => value.GetString()!,
            JsonValueKind.Number => value.GetInt64(),
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            _ => throw new NotSupportedException($"A default is a string, a whole number or a boolean, not {value.GetRawText()}."),
        };
}

/// <summary>Fields of a kind that lack what every field must have.</summary>
internal sealed class IncompleteSchemaException(Type kind, IReadOnlyList<string> problems)
    : Exception($"The schema of {kind.Name} is incomplete:\n" + string.Join("\n", problems.Select(p => "  " + p)));
