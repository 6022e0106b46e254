using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>A patch of one of the types that change an object as it is (all but apply).</summary>
internal sealed class ObjectPatch
{
    private readonly Func<JsonObject, JsonNode?> _apply;

    private ObjectPatch(Func<JsonObject, JsonNode?> apply, List<string> duplicates)
    {
        _apply = apply;
        Duplicates = duplicates;
    }

    /// <summary>Fields that the patch gives twice.</summary>
    public IReadOnlyList<string> Duplicates { get; }

    /// <summary>Null for a content type that isn't taken.</summary>
    public static ObjectPatch? Parse(string contentType, byte[] body, ResourceType type)
    {
        var duplicates = new List<string>();
        switch (contentType)
        {
            case "application/json-patch+json":
                JsonArray operations =
                    Read(body, null) as JsonArray
                    ?? throw ApiError.BadRequest(
                        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
                    );
                foreach (JsonNode? operation in operations)
                {
                    if ((operation as JsonObject).Str("op") is not ("add" or "remove" or "replace" or "move" or "copy" or "test"))
                        throw ApiError.BadRequest($"invalid operation {Json.Text(operation)}: unsupported operation");
                }

                return new ObjectPatch(current => JsonPatch.Apply(current, operations), duplicates);
            case "application/merge-patch+json":
                JsonObject merge = Read(body, duplicates) as JsonObject ?? throw ApiError.BadRequest("Invalid JSON Patch");
                return new ObjectPatch(current => MergePatch.Apply(current, merge), duplicates);
            case "application/strategic-merge-patch+json" when !type.IsCustom:
                JsonObject strategic =
                    Read(body, duplicates) as JsonObject ?? throw ApiError.BadRequest("error decoding patch: expected an object");
                return new ObjectPatch(current => StrategicMergePatch.Apply(current, strategic), duplicates);
            default:
                return null;
        }
    }

    public JsonObject Apply(JsonObject current)
    {
        try
        {
            return _apply(current) as JsonObject ?? throw ApiError.BadRequest("the patch leaves no object");
        }
        catch (JsonPatchException)
        {
            throw new ApiError(422, "Invalid", "the server rejected our request due to an error in our request", new JsonObject());
        }
    }

    /// <summary>The refusal of a patch that leads to unknown or duplicate fields; it quotes the result.</summary>
    public static Func<string, ApiError> Refuse(JsonObject result)
    {
        string text = Json.Text(result);
        return problem => ApiError.Invalid("", "", "", [Violation.Invalid("patch", JsonValue.Create(text), problem)]);
    }

    private static JsonNode? Read(byte[] body, List<string>? duplicates)
    {
        try
        {
            return Json.Parse(body, duplicates);
        }
        catch (JsonException e)
        {
            throw ApiError.BadRequest($"error decoding patch: {e.Message}");
        }
    }
}
