using System.Net;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>The API server refused a call. The message is the server's own sentence.</summary>
public sealed class ApiException : Exception
{
    /// <summary>Wraps the server's answer.</summary>
    public ApiException(HttpStatusCode statusCode, V1Status status, TimeSpan? retryAfter = null, Exception? inner = null)
        : base(status.Message is { Length: > 0 } message ? message : $"The API server answered {(int)statusCode} {statusCode}.", inner)
    {
        StatusCode = statusCode;
        Status = status;
        RetryAfter = retryAfter ?? (status.Details?.RetryAfterSeconds is > 0 and var seconds ? TimeSpan.FromSeconds(seconds) : null);
    }

    /// <summary>HTTP status, or the code within a watch's ERROR event.</summary>
    public HttpStatusCode StatusCode { get; }

    /// <summary>The server's answer.</summary>
    public V1Status Status { get; }

    /// <summary>How long the server asks to wait.</summary>
    public TimeSpan? RetryAfter { get; }

    /// <summary>404: no such object, or no such kind.</summary>
    public bool IsNotFound => StatusCode == HttpStatusCode.NotFound;

    /// <summary>409 because the object is already there.</summary>
    public bool IsAlreadyExists => StatusCode == HttpStatusCode.Conflict && Status.Reason == "AlreadyExists";

    /// <summary>409 because the object was changed, is another by its UID, or a field belongs to another manager.</summary>
    public bool IsConflict => StatusCode == HttpStatusCode.Conflict && !IsAlreadyExists;

    /// <summary>410: the resource version or the continue token is too old; list again.</summary>
    public bool IsGone => StatusCode == HttpStatusCode.Gone || Status.Reason is "Expired" or "Gone";

    /// <summary>403.</summary>
    public bool IsForbidden => StatusCode == HttpStatusCode.Forbidden;

    /// <summary>401.</summary>
    public bool IsUnauthorized => StatusCode == HttpStatusCode.Unauthorized;

    /// <summary>429: asked to slow down.</summary>
    public bool IsTooManyRequests => StatusCode == HttpStatusCode.TooManyRequests;

    /// <summary>422: the object breaks its schema or a rule.</summary>
    public bool IsInvalid => StatusCode == HttpStatusCode.UnprocessableEntity;
}
