using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Tables;

/// <summary>meta.k8s.io/v1 Tables, from which kubectl prints.</summary>
internal static class TablePrinter
{
    private const string NameDescription =
        "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

    public static JsonObject Print(
        ResourceType type,
        IEnumerable<JsonObject> objects,
        JsonObject metadata,
        string includeObject,
        DateTimeOffset now,
        bool withColumns
    )
    {
        IReadOnlyList<Column> columns = type.IsCustom ? type.Columns : BuiltInColumns.Of(type);
        var definitions = new JsonArray();
        if (withColumns)
        {
            definitions.Add(Definition("Name", "string", "name", NameDescription, 0));
            foreach (Column column in columns)
                definitions.Add(Definition(column.Name, column.Type, column.Format, column.Description, column.Priority));
        }

        var rows = new JsonArray();
        foreach (JsonObject obj in objects)
        {
            var cells = new JsonArray(obj.Obj("metadata")?["name"].Copy());
            foreach (Column column in columns)
                cells.Add(column.Value(obj, now));
            var row = new JsonObject { ["cells"] = cells };
            switch (includeObject)
            {
                case "Object":
                    row["object"] = obj.Copy();
                    break;
                case "None":
                    row["object"] = null;
                    break;
                default:
                    row["object"] = ObjectViews.Partial(obj);
                    break;
            }

            rows.Add(row);
        }

        return new JsonObject
        {
            ["kind"] = "Table",
            ["apiVersion"] = "meta.k8s.io/v1",
            ["metadata"] = metadata,
            ["columnDefinitions"] = definitions,
            ["rows"] = rows,
        };
    }

    private static JsonObject Definition(string name, string type, string format, string description, int priority) =>
        new()
        {
            ["name"] = name,
            ["type"] = type,
            ["format"] = format,
            ["description"] = description,
            ["priority"] = (long)priority,
        };
}
