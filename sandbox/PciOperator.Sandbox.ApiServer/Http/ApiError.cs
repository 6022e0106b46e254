using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>A refusal: a metav1.Status with the reason, code and wording that kube-apiserver gives.</summary>
internal sealed class ApiError : Exception
{
    public ApiError(int code, string reason, string message, JsonObject? details = null, string? continueToken = null)
        : base(message)
    {
        Code = code;
        Reason = reason;
        Details = details;
        ContinueToken = continueToken;
    }

    public int Code { get; }

    public string Reason { get; }

    public JsonObject? Details { get; }

    /// <summary>For an expired page: a token with which the list can go on, inconsistently.</summary>
    public string? ContinueToken { get; }

    public JsonObject ToStatus()
    {
        var metadata = new JsonObject();
        if (ContinueToken is not null)
            metadata["continue"] = ContinueToken;
        var status = new JsonObject
        {
            ["kind"] = "Status",
            ["apiVersion"] = "v1",
            ["metadata"] = metadata,
            ["status"] = "Failure",
            ["message"] = Message,
        };
        if (Reason.Length > 0)
            status["reason"] = Reason;
        if (Details is not null)
            status["details"] = Details.Copy();
        status["code"] = Code;
        return status;
    }

    private static JsonObject About(string group, string kind, string? name, JsonArray? causes = null, string? uid = null)
    {
        var details = new JsonObject();
        if (!string.IsNullOrEmpty(name))
            details["name"] = name;
        if (group.Length > 0)
            details["group"] = group;
        if (kind.Length > 0)
            details["kind"] = kind;
        if (uid is not null)
            details["uid"] = uid;
        if (causes is { Count: > 0 })
            details["causes"] = causes;
        return details;
    }

    /// <summary>A resource as messages name it: <c>pciclaims.pcioperator.io</c>, <c>nodes</c>.</summary>
    public static string Qualified(string group, string name) => group.Length == 0 ? name : name + "." + group;

    public static ApiError NotFound(string group, string plural, string name) =>
        new(404, "NotFound", $"{Qualified(group, plural)} \"{name}\" not found", About(group, plural, name));

    /// <summary>A path that nothing answers; plain text, not a Status.</summary>
    public static ApiError NoSuchPath() => new(404, "", "404 page not found");

    public static ApiError NoSuchResource() => new(404, "NotFound", "the server could not find the requested resource", new JsonObject());

    public static ApiError AlreadyExists(string group, string plural, string name) =>
        new(409, "AlreadyExists", $"{Qualified(group, plural)} \"{name}\" already exists", About(group, plural, name));

    public static ApiError Conflict(string group, string plural, string name, string why) =>
        new(409, "Conflict", $"Operation cannot be fulfilled on {Qualified(group, plural)} \"{name}\": {why}", About(group, plural, name));

    public const string Modified = "the object has been modified; please apply your changes to the latest version and try again";

    public static ApiError Forbidden(string group, string plural, string name, string why, JsonArray? causes = null) =>
        new(
            403,
            "Forbidden",
            $"{Qualified(group, plural)} {(name.Length == 0 ? "" : $"\"{name}\" ")}is forbidden: {why}",
            About(group, plural, name, causes)
        );

    public static ApiError BadRequest(string message) => new(400, "BadRequest", message);

    public static ApiError Unauthorized() => new(401, "Unauthorized", "Unauthorized");

    public static ApiError MethodNotAllowed() =>
        new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", new JsonObject());

    public static ApiError NotAcceptable() =>
        new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        );

    public static ApiError UnsupportedMediaType(string accepted) =>
        new(415, "UnsupportedMediaType", $"the body of the request was in an unknown format - accepted media types include: {accepted}");

    public static ApiError Expired(string message, string? continueToken = null) => new(410, "Expired", message, null, continueToken);

    /// <summary>An error that kube-apiserver gives no reason for.</summary>
    public static ApiError Internal(string message) => new(500, "", message);

    public static ApiError Invalid(string group, string kind, string name, IReadOnlyList<Schemas.Violation> violations)
    {
        var causes = new JsonArray();
        foreach (Violation violation in violations)
        {
            causes.Add(
                new JsonObject
                {
                    ["reason"] = violation.Reason,
                    ["message"] = violation.Message,
                    ["field"] = violation.Field,
                }
            );
        }

        var texts = violations.Select(v => $"{v.Field}: {v.Message}").Distinct(StringComparer.Ordinal).ToList();
        string all = texts.Count == 1 ? texts[0] : $"[{string.Join(", ", texts)}]";
        return new ApiError(422, "Invalid", $"{Qualified(group, kind)} \"{name}\" is invalid: {all}", About(group, kind, name, causes));
    }
}
