using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Writes answers.</summary>
internal static class ApiResponse
{
    public static Task JsonAsync(
        HttpContext context,
        int code,
        JsonNode body,
        bool yaml = false,
        string contentType = "application/json"
    ) =>
        yaml
            ? BytesAsync(context, code, System.Text.Encoding.UTF8.GetBytes(Yaml.Write(body)), "application/yaml")
            : BytesAsync(context, code, Json.Utf8(body), contentType);

    public static async Task BytesAsync(HttpContext context, int code, ReadOnlyMemory<byte> body, string contentType = "application/json")
    {
        HttpResponse response = context.Response;
        response.StatusCode = code;
        response.ContentType = contentType;
        response.ContentLength = body.Length;
        response.Headers.CacheControl = "no-cache, private";
        await response.BodyWriter.WriteAsync(body, context.RequestAborted);
    }

    public static Task ErrorAsync(HttpContext context, ApiError error)
    {
        if (context.Response.HasStarted)
            return Task.CompletedTask;
        if (error is { Code: 404, Reason: "" })
        {
            context.Response.Headers.XContentTypeOptions = "nosniff";
            return BytesAsync(context, 404, System.Text.Encoding.UTF8.GetBytes(error.Message + "\n"), "text/plain; charset=utf-8");
        }

        if (error.Details.Int("retryAfterSeconds") is { } seconds)
            context.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        return JsonAsync(context, error.Code, error.ToStatus());
    }

    /// <summary>Warnings, as RFC 7234 headers that kubectl prints.</summary>
    public static void Warn(HttpContext context, IEnumerable<string> warnings)
    {
        foreach (string warning in warnings)
        {
            context.Response.Headers.Append(
                "Warning",
                $"299 - \"{warning.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\""
            );
        }
    }
}
