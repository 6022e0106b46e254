using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Takes each request to what answers it.</summary>
internal sealed class Router(ApiCore core, string token)
{
    private readonly byte[] _token = Encoding.ASCII.GetBytes("Bearer " + token);
    private readonly Discovery _discovery = new(core.Catalog);
    private readonly OpenApi _openApi = new(core.Catalog);
    private readonly ResourceRequests _resources = new(core);

    public async Task HandleAsync(HttpContext context)
    {
        try
        {
            await RouteAsync(context);
        }
        catch (ApiError error)
        {
            await ApiResponse.ErrorAsync(context, error);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The client left.
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            await ApiResponse.ErrorAsync(
                context,
                new ApiError(500, "InternalError", $"Internal error occurred: {e.GetType().Name}: {e.Message}")
            );
        }
    }

    private Task RouteAsync(HttpContext context)
    {
        string path = context.Request.Path.Value ?? "/";
        if (path.TrimEnd('/') is "/healthz" or "/livez" or "/readyz")
            return ApiResponse.BytesAsync(context, 200, "ok"u8.ToArray(), "text/plain; charset=utf-8");
        if (path == "/version")
            return ApiResponse.JsonAsync(context, 200, Version());
        if (!IsAdministrator(context.Request))
            throw ApiError.Unauthorized();

        if (RequestPath.Parse(path) is { } resource)
            return _resources.HandleAsync(context, resource);
        if (_discovery.Answer(context.Request, path) is { } answer)
            return ApiResponse.JsonAsync(context, 200, answer.Body, contentType: answer.ContentType);
        if (path.StartsWith("/openapi/v3", StringComparison.Ordinal) && _openApi.Answer(path) is { } document)
            return ApiResponse.JsonAsync(context, 200, document);
        if (path == "/openapi/v2")
            return OpenApiV2Async(context);
        throw ApiError.NoSuchPath();
    }

    private static Task OpenApiV2Async(HttpContext context)
    {
        const string protobuf = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        return context.Request.Headers.Accept.ToString().Contains("protobuf", StringComparison.Ordinal)
            ? ApiResponse.BytesAsync(context, 200, OpenApi.EmptyV2Protobuf, protobuf)
            : ApiResponse.JsonAsync(context, 200, OpenApi.EmptyV2());
    }

    private bool IsAdministrator(HttpRequest request) =>
        CryptographicOperations.FixedTimeEquals(Encoding.ASCII.GetBytes(request.Headers.Authorization.ToString()), _token);

    private static JsonObject Version() =>
        new()
        {
            ["major"] = "1",
            ["minor"] = "36",
            ["gitVersion"] = "v1.36.0+pcioperator-sandbox",
            ["gitCommit"] = "",
            ["gitTreeState"] = "clean",
            ["buildDate"] = "1970-01-01T00:00:00Z",
            ["goVersion"] = "",
            ["compiler"] = "dotnet",
            ["platform"] = "linux/amd64",
        };
}
