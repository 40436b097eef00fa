# The server of `npm start`. Run it with a stop timeout of 310 s, so that running answers finish: docs/deploy-node.md
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY tsconfig.json ./
COPY src src
COPY static static

FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production USAGE_FILE=/data/usage.json
RUN mkdir /data && chown node:node /data
COPY --from=build /app ./
USER node
VOLUME /data
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s CMD ["node", "src/platform/node/health-check.mjs"]
# Node itself: a shell does not pass signals on.
CMD ["node", "--import", "./src/platform/node/no-cache.mjs", "--import", "tsx", "src/node.ts"]
