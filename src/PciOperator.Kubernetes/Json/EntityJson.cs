using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace PciOperator.Kubernetes;

/// <summary>JSON as the Kubernetes API speaks it: camelCase, no nulls, enums by name. Source-generated throughout.</summary>
public static class EntityJson
{
    /// <summary>Options that know the built-in models.</summary>
    public static JsonSerializerOptions Options { get; } = OptionsWith();

    /// <summary>Options that know the built-in models and a caller's own entities.</summary>
    /// <param name="entityTypes">Usually the caller's <see cref="JsonSerializerContext"/>, with each entity as a root type.</param>
    public static JsonSerializerOptions OptionsWith(params IEnumerable<IJsonTypeInfoResolver?> entityTypes)
    {
        var options = new JsonSerializerOptions
        {
            PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
            DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
            // The answers go to an API server, never into HTML.
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            TypeInfoResolver = JsonTypeInfoResolver
                .Combine([.. entityTypes, BuiltInJsonContext.Default])
                .WithAddedModifier(BuiltInModels.Modify)
                .WithAddedModifier(LeanMetadataConverter.Modify),
        };
        // What a server can store must be readable: one odd scalar is no reason to know nothing of an object.
        options.Converters.Add(TimeConverter.Whole);
        options.Converters.Add(new RequiredTimeConverter());
        options.Converters.Add(new LenientTimeConverter());
        options.Converters.Add(new LenientInt32Converter());
        options.Converters.Add(new LenientInt64Converter());
        options.MakeReadOnly();
        return options;
    }

    /// <summary>The metadata of <typeparamref name="T"/> in <paramref name="options"/>.</summary>
    /// <exception cref="InvalidOperationException">The options do not know the type.</exception>
    public static JsonTypeInfo<T> TypeInfo<T>(this JsonSerializerOptions options) =>
        options.TryGetTypeInfo(typeof(T), out JsonTypeInfo? info)
            ? (JsonTypeInfo<T>)info
            : throw new InvalidOperationException(
                $"No JSON metadata for {typeof(T)}: add [JsonSerializable(typeof({typeof(T).Name}))] to a JsonSerializerContext and pass it to EntityJson.OptionsWith or to the EntityClient."
            );
}
