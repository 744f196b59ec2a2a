-- The passwords of the roles, in Docker Compose. psql reads the secrets itself, so they are in no command line.
\set owner_password `cat /run/secrets/owner_password`
\set app_password `cat /run/secrets/app_password`
\set read_password `cat /run/secrets/read_password`
ALTER ROLE ingestd_owner PASSWORD :'owner_password';
ALTER ROLE ingestd_app PASSWORD :'app_password';
ALTER ROLE ingestd_read PASSWORD :'read_password';
