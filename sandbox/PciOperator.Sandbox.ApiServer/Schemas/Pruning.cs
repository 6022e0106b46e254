using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>Removes fields that a structural schema doesn't know.</summary>
internal static class Pruning
{
    private static readonly string[] TypeFields = ["apiVersion", "kind", "metadata"];

    /// <summary>Prunes <paramref name="node"/> in place and adds the path of each field removed.</summary>
    public static void Apply(JsonNode? node, Schema schema, List<string> removed, bool isResource = true) =>
        Walk(node, schema, "", removed, isResource || schema.EmbeddedResource);

    private static void Walk(JsonNode? node, Schema schema, string path, List<string> removed, bool isResource)
    {
        switch (node)
        {
            case JsonObject obj:
                List<string>? unknown = null;
                foreach ((string name, JsonNode? value) in obj)
                {
                    if (isResource && TypeFields.Contains(name))
                        continue;
                    string child = path.Length == 0 ? name : path + "." + name;
                    if (schema.Field(name) is { } field)
                    {
                        Walk(value, field, child, removed, field.EmbeddedResource);
                    }
                    else if (!schema.PreserveUnknown)
                    {
                        (unknown ??= []).Add(name);
                        removed.Add(child);
                    }
                }

                unknown?.ForEach(name => obj.Remove(name));
                break;
            case JsonArray array when schema.Items is { } items:
                for (int i = 0; i < array.Count; i++)
                    Walk(array[i], items, $"{path}[{i}]", removed, items.EmbeddedResource);
                break;
        }
    }
}
