using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Tables;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>An object in the form that the client asked for: whole, as a table's row, or its metadata alone.</summary>
internal sealed class ObjectViews(ApiCore core)
{
    public Task WriteAsync(HttpContext context, int code, ResourceType type, JsonObject obj, AcceptedForm form) =>
        ApiResponse.JsonAsync(
            context,
            code,
            form.Form switch
            {
                ObjectForm.Table => TableOf(
                    context.Request,
                    type,
                    [obj],
                    new JsonObject { ["resourceVersion"] = obj.Obj("metadata").Str("resourceVersion") }
                ),
                ObjectForm.PartialMetadata => Partial(obj),
                _ => obj,
            },
            form.Yaml
        );

    public JsonObject TableOf(
        HttpRequest request,
        ResourceType type,
        IEnumerable<JsonObject> objects,
        JsonObject metadata,
        bool withColumns = true
    ) => TablePrinter.Print(type, objects, metadata, request.Query["includeObject"].ToString(), core.Now, withColumns);

    public static JsonObject Partial(JsonObject obj) =>
        new()
        {
            ["kind"] = "PartialObjectMetadata",
            ["apiVersion"] = "meta.k8s.io/v1",
            ["metadata"] = obj["metadata"].Copy(),
        };
}
