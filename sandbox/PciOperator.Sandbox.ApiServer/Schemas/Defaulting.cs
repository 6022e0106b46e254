using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>Fills in a schema's defaults, and drops nulls that a default replaces.</summary>
internal static class Defaulting
{
    public static void Apply(JsonNode? node, Schema schema)
    {
        switch (node)
        {
            case JsonObject obj:
                foreach ((string name, Schema property) in schema.Properties)
                {
                    if (!property.HasDefault)
                        continue;
                    if (!obj.TryGetPropertyValue(name, out JsonNode? there) || (there is null && !property.Nullable))
                        obj[name] = property.Default.Copy();
                }

                foreach ((string name, JsonNode? value) in obj)
                {
                    if (value is not null && schema.Field(name) is { } field)
                        Apply(value, field);
                }

                break;
            case JsonArray array when schema.Items is { } items:
                foreach (JsonNode? item in array)
                    Apply(item, items);
                break;
        }
    }
}
